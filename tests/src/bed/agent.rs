//! `router agent` on the node, driven as an operator drives it: files, signals, its admin address.

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, ExitStatus, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Node, remote};
use crate::{
    protocol::{Http, HttpRequest, Reply},
    sys, wait,
};

/// Admin address on the node's loopback.
pub const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15_020);

/// The agent is ready within this time; emulated machines are slow.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// The agent ends within this time after SIGTERM.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// A change of the configuration is in force within this time.
const CHANGED_WITHIN: Duration = Duration::from_secs(60);
/// Lines of the log that a failure shows.
const LOG_LINES: usize = 40;

/// How to run the agent.
#[derive(Clone, Default, Debug)]
pub struct AgentOptions {
    /// Further arguments.
    pub arguments: Vec<String>,
    /// The `router` program; none: this binary's own.
    pub router: Option<PathBuf>,
    /// What it sees as `/etc/hosts`; none: this machine's.
    pub hosts: Option<PathBuf>,
}

impl AgentOptions {
    fn program(&self) -> &OsStr {
        self.router
            .as_ref()
            .map_or(OsStr::new("router"), |path| path.as_os_str())
    }
}

/// A limit and its use, as the kernel counts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Connections that may be open at once.
    pub max: u64,
    /// Connections that are open.
    pub active: u64,
    /// Connections that were refused.
    pub refused: u64,
}

/// What the kernel did with connections to a service port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceUse {
    /// Sent to an endpoint.
    pub routed: u64,
    /// Sent to the proxy.
    pub proxied: u64,
    /// Refused.
    pub refused: u64,
}

/// A running agent with its configuration directory.
#[derive(Debug)]
pub struct Agent<'a> {
    node: &'a Node,
    options: AgentOptions,
    cgroup: PathBuf,
    child: Option<Child>,
}

impl<'a> Agent<'a> {
    /// Writes the files and starts the agent; returns when it is ready.
    ///
    /// # Errors
    ///
    /// It does not become ready; the message ends with its log.
    pub fn start(node: &'a Node, files: &[(&str, &str)]) -> Result<Self> {
        Self::start_with(node, files, AgentOptions::default())
    }

    /// [`Agent::start`] with options.
    ///
    /// # Errors
    ///
    /// As [`Agent::start`].
    pub fn start_with(node: &'a Node, files: &[(&str, &str)], options: AgentOptions) -> Result<Self> {
        fs::create_dir_all(node.scratch().directory().join("config"))?;
        let mut agent = Self {
            node,
            options,
            cgroup: node.scratch().cgroup_below("system/agent")?,
            child: None,
        };
        for (name, text) in files {
            agent.write(name, text)?;
        }
        agent.run()?;
        Ok(agent)
    }

    /// The node it runs on.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// Directory with the configuration.
    pub fn config(&self) -> PathBuf {
        self.node.scratch().directory().join("config")
    }

    /// Replaces a file of the configuration in one step, as editors and config maps do.
    ///
    /// # Errors
    ///
    /// The file system is full.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let next = self.node.scratch().directory().join("next");
        fs::write(&next, text)?;
        fs::rename(next, self.config().join(name))?;
        Ok(())
    }

    /// [`Agent::write`], and waits until the change is in force.
    ///
    /// # Errors
    ///
    /// It does not come in force.
    pub fn change(&self, name: &str, text: &str) -> Result<()> {
        let before = self.generation()?;
        self.write(name, text)?;
        let changed = || self.generation().ok().filter(|now| *now > before);
        let generation = wait::until("the change to be in force", CHANGED_WITHIN, changed);
        generation.map(drop).with_context(|| self.log_tail())
    }

    /// Starts the agent again after [`Agent::kill`] or [`Agent::terminate`].
    ///
    /// # Errors
    ///
    /// It does not become ready.
    pub fn run(&mut self) -> Result<()> {
        self.spawn()?;
        self.until_ready()
    }

    /// [`Agent::run`] with a configuration that cannot be put in force: returns when the agent says so.
    ///
    /// # Errors
    ///
    /// It ends, or it becomes ready.
    pub fn run_unready(&mut self) -> Result<()> {
        self.spawn()?;
        let refused = || {
            self.status()
                .ok()
                .filter(|status| status["config"]["accepted"] == false)
        };
        wait::until("the agent to refuse the configuration", READY_WITHIN, refused)?;
        let ready = self.admin("/readyz")?;
        if ready.status != 503 {
            bail!("ready without a configuration: {ready:?}");
        }
        Ok(())
    }

    fn spawn(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let scratch = self.node.scratch();
        let mut command = remote::inside(
            &self.node.remote().network(),
            &self.cgroup,
            self.options.program(),
        )?;
        command
            .arg("agent")
            .arg("--config")
            .arg(self.config())
            .arg("--cgroup")
            .arg(scratch.cgroup())
            .arg("--pin-dir")
            .arg(scratch.pins())
            .args(["--admin", &ADMIN.to_string()])
            .args(&self.options.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if let Some(hosts) = &self.options.hosts {
            sys::with_hosts(&mut command, hosts)?;
        }
        self.child = Some(command.spawn().context("starting the agent")?);
        Ok(())
    }

    fn until_ready(&mut self) -> Result<()> {
        let outcome = wait::until("the agent to be ready", READY_WITHIN, || {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                return Some(Err(status));
            }
            let ready = self.admin("/readyz").is_ok_and(|reply| reply.status == 200);
            ready.then_some(Ok(()))
        });
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => bail!("the agent ended with {status}\n{}", self.log_tail()),
            Err(error) => Err(error.context(self.log_tail())),
        }
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// SIGKILL.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the agent does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    ///
    /// It does not end in time.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the agent does not run")?;
        sys::signal(child.id(), libc::SIGTERM)?;
        let ended = wait::until("the agent to end", GONE_WITHIN, || {
            child.try_wait().ok().flatten()
        });
        if ended.is_err() {
            child.kill()?;
        }
        ended.with_context(|| self.log_tail())
    }

    /// `GET path` of the admin address.
    ///
    /// # Errors
    ///
    /// No reply.
    pub fn admin(&self, path: &str) -> Result<Reply> {
        let request = Http::to(ADMIN, "admin", HttpRequest::get(path), 1).trace();
        let reply = self
            .node
            .remote()
            .http(request)?
            .replies
            .pop()
            .context("no reply")?;
        match &reply.error {
            Some(error) => bail!("GET {path}: {error}"),
            None => Ok(reply),
        }
    }

    /// `GET path` of the admin address, as JSON.
    ///
    /// # Errors
    ///
    /// No reply, not 200, or not JSON.
    pub fn json(&self, path: &str) -> Result<Value> {
        let reply = self.admin(path)?;
        if reply.status != 200 {
            bail!("GET {path}: {} {}", reply.status, reply.body);
        }
        serde_json::from_str(&reply.body).with_context(|| format!("GET {path}: {}", reply.body))
    }

    /// How the agent is.
    ///
    /// # Errors
    ///
    /// The admin address does not tell.
    pub fn status(&self) -> Result<Value> {
        self.json("/status")
    }

    /// Number of the configuration in force.
    ///
    /// # Errors
    ///
    /// The admin address does not tell.
    pub fn generation(&self) -> Result<u64> {
        let status = self.status()?;
        let generation = status["config"]["generation"].as_u64();
        generation.with_context(|| format!("no generation in {status}"))
    }

    /// Connections with a verdict, since the maps were made.
    ///
    /// # Errors
    ///
    /// The admin address does not tell.
    pub fn verdict(&self, name: &str) -> Result<u64> {
        let status = self.status()?;
        let verdicts = status["verdicts"].as_array().context("no verdicts")?;
        let verdict = verdicts.iter().find(|v| v["verdict"] == name);
        Ok(verdict.and_then(|v| v["connections"].as_u64()).unwrap_or(0))
    }

    /// Use of the limit of the policy whose object name ends with `policy`.
    ///
    /// # Errors
    ///
    /// No such limit in the kernel.
    pub fn limit(&self, policy: &str) -> Result<Limit> {
        let status = self.status()?;
        let limits = status["limits"].as_array().context("no limits")?;
        let named = |l: &&Value| l["policy"].as_str().is_some_and(|name| name.ends_with(policy));
        let limit = limits.iter().find(named).map(|l| &l["limit"]);
        let field = |name: &str| limit?[name].as_u64();
        match (field("max"), field("active"), field("refused")) {
            (Some(max), Some(active), Some(refused)) => Ok(Limit { max, active, refused }),
            _ => bail!("no limit {policy} in {status}"),
        }
    }

    /// Connections to a port of a service in namespace `default`: routed, proxied, refused by the kernel.
    ///
    /// # Errors
    ///
    /// The kernel does not know it.
    pub fn service(&self, name: &str, port: u16) -> Result<ServiceUse> {
        self.service_called(&format!("{name}.default.svc.cluster.local"), port)
    }

    /// [`Agent::service`] by its whole name.
    ///
    /// # Errors
    ///
    /// The kernel does not know it.
    pub fn service_called(&self, name: &str, port: u16) -> Result<ServiceUse> {
        let status = self.status()?;
        let services = status["services"].as_array().context("no services")?;
        let service = services
            .iter()
            .find(|s| s["service"] == name && s["port"] == port);
        let field = |name: &str| service?[name].as_u64();
        match (field("routed"), field("proxied"), field("refused")) {
            (Some(routed), Some(proxied), Some(refused)) => Ok(ServiceUse {
                routed,
                proxied,
                refused,
            }),
            _ => bail!("the kernel does not know {name}:{port}: {status}"),
        }
    }

    /// Runs another subcommand of `router` on the node, with the agent's directories at hand.
    ///
    /// # Errors
    ///
    /// It could not be started.
    pub fn router(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.node.remote().command(self.options.program())?;
        command.args(arguments).stdin(Stdio::null());
        command.output().context("running router")
    }

    /// All that the agent has logged.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.log_path())?).into_owned())
    }

    /// The end of the log, for a failure's message.
    pub fn log_tail(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("the agent's log ends with\n{}", tail.join("\n"))
    }

    fn log_path(&self) -> PathBuf {
        self.node.scratch().directory().join("log")
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if self.child.is_some() {
            // It may have ended by itself.
            let _ = self.kill();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}
