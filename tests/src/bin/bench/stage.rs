//! A node for one system: a client pod, two server pods with their servers, a cgroup for the system itself.
//!
//! Each system has a node of its own, so none sees another's programs, rules or traffic. It knows nothing of what runs
//! in between.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use tests::{
    bed::{Node, Pod},
    process,
};

use crate::{
    generate,
    job::{Job, Measured, Served},
    serve,
};

/// Names of the cgroups whose processor time is taken.
pub(crate) const SYSTEM: &str = "system";
pub(crate) const CLIENT: &str = "client";
pub(crate) const SERVER: &str = "server";

/// A node with everything but the system.
pub(crate) struct Stage {
    // Dropped in this order: servers end before their pods.
    servers: RefCell<Vec<Server>>,
    client: Pod,
    pods: Vec<Pod>,
    node: Node,
    system: PathBuf,
}

/// A running server, which tells what it has served.
struct Server(Talker);

/// A load generator in the client pod. It does one job after the other and costs nothing in between, so several of them
/// can be asked in turn.
pub(crate) struct Generator(Talker);

/// A process that is written lines to and that answers each with one.
struct Talker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Stage {
    /// Makes the node and starts the servers.
    pub(crate) fn new() -> Result<Self> {
        let node = Node::new()?;
        let client = node.pod("client", &[("app", "client")])?;
        let mut pods = Vec::new();
        for version in ["v1", "v2"] {
            pods.push(node.pod(&format!("web-{version}"), &[("app", "web"), ("version", version)])?);
        }
        let servers = RefCell::new(pods.iter().map(Server::start).collect::<Result<_>>()?);
        let system = node.scratch().cgroup_below("system/sut")?;
        Ok(Self {
            servers,
            client,
            pods,
            node,
            system,
        })
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// The server pods: versions v1 and v2.
    pub(crate) fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// A fresh place for a system's files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.node.scratch().directory().join(name)
    }

    /// A command on the node, in the system's cgroup.
    pub(crate) fn system_command(&self, program: &Path) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(process::INSIDE)
            .arg(self.node.remote().network())
            .arg(&self.system)
            .arg(program);
        Ok(command)
    }

    /// The usual cgroup of a system.
    pub(crate) fn system_cgroup(&self) -> &Path {
        &self.system
    }

    /// The cgroups whose processor time is taken.
    pub(crate) fn cgroups(&self, system: &Path) -> BTreeMap<String, PathBuf> {
        // The servers' pods share one parent with the client's, so they are named one by one.
        let mut cgroups = BTreeMap::from([
            (SYSTEM.into(), system.into()),
            (CLIENT.into(), self.client.cgroup().into()),
        ]);
        for (number, pod) in self.pods.iter().enumerate() {
            cgroups.insert(format!("{SERVER}{number}"), pod.cgroup().into());
        }
        cgroups
    }

    /// Starts a load generator in the client pod, which waits for jobs.
    pub(crate) fn generator(&self) -> Result<Generator> {
        let mut command = self.client.command(std::env::current_exe()?)?;
        command.arg(generate::GENERATE);
        Ok(Generator(
            Talker::start(command).context("starting the load generator")?,
        ))
    }

    /// Starts to follow where connections to `target` go.
    pub(crate) fn watch(&self, target: std::net::SocketAddr) -> Result<Child> {
        let mut command = self.client.command(std::env::current_exe()?)?;
        command.arg(generate::WATCH).arg(target.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().context("starting the watcher")
    }

    /// What each server has served so far.
    pub(crate) fn served(&self) -> Result<Vec<Served>> {
        self.servers.borrow_mut().iter_mut().map(Server::ask).collect()
    }

    /// Writes a file for a system.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

impl Server {
    fn start(pod: &Pod) -> Result<Self> {
        let mut command = pod.command(std::env::current_exe()?)?;
        command.arg(serve::SERVE).arg(pod.name());
        let mut server = Self(Talker::start(command).context("starting a server")?);
        // It says what it has served, nothing, when it listens.
        let first: Result<Served> = server.0.hear();
        first.with_context(|| format!("{} does not serve", pod.name()))?;
        Ok(server)
    }

    fn ask(&mut self) -> Result<Served> {
        self.0.say("")?;
        self.0.hear().context("what a server says")
    }
}

impl Generator {
    /// Does a job; calls `midway` in the middle of its window.
    pub(crate) fn perform(&mut self, job: &Job, midway: impl FnOnce() -> Result<()>) -> Result<Measured> {
        self.0.say(&serde_json::to_string(job)?)?;
        // waits: until the middle of the window.
        std::thread::sleep(Duration::from_millis(job.warm_up_ms + job.window_ms / 2));
        midway()?;
        self.0.hear().context("what the load generator says")
    }
}

impl Talker {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, stdin, stdout })
    }

    fn say(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.stdin, "{line}")?)
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            bail!("it ended with {}", self.child.wait()?);
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // It may be gone already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
