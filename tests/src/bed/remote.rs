//! The test's end of a pod's process.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    process,
    protocol::{
        Answer, Behaviour, Command, Connect, Connected, Datagrams, Http, Replies, Request, Response, Seen,
        Tls,
    },
};

/// An answer that takes longer is a failed test.
const PATIENCE: Duration = Duration::from_secs(600);

type Waiting = Arc<Mutex<BTreeMap<u64, SyncSender<Result<Answer, String>>>>>;

/// A process in a pod's (or the node's) network namespace and cgroup, which does what it is told.
#[derive(Debug)]
pub struct Remote {
    name: String,
    cgroup: PathBuf,
    child: Mutex<Child>,
    pid: u32,
    stdin: Mutex<ChildStdin>,
    next: AtomicU64,
    waiting: Waiting,
}

/// A request that runs.
#[derive(Debug)]
pub struct Pending<'a> {
    remote: &'a Remote,
    id: u64,
    answer: Receiver<Result<Answer, String>>,
}

impl Remote {
    /// Starts the process and waits until it is in its namespace and cgroup.
    pub(super) fn start(name: &str, cgroup: &Path) -> Result<Self> {
        let mut child = std::process::Command::new(std::env::current_exe()?)
            .arg(process::POD)
            .arg(name)
            .arg(cgroup)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a pod's process")?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let waiting = Waiting::default();
        let (sender, ready) = sync_channel(1);
        lock(&waiting).insert(0, sender);
        let dispatching = waiting.clone();
        std::thread::spawn(move || dispatch(stdout, &dispatching));
        let remote = Self {
            name: name.into(),
            cgroup: cgroup.into(),
            pid: child.id(),
            child: Mutex::new(child),
            stdin: Mutex::new(stdin),
            next: AtomicU64::new(1),
            waiting,
        };
        let pending = Pending {
            remote: &remote,
            id: 0,
            answer: ready,
        };
        pending.wait().with_context(|| format!("{name} did not start"))?;
        Ok(remote)
    }

    /// Name, as its servers say it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Cgroup directory that the process is in.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Path by which others enter the network namespace.
    pub fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid).into()
    }

    /// Starts a request.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn begin(&self, command: Command) -> Result<Pending<'_>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = sync_channel(1);
        lock(&self.waiting).insert(id, sender);
        let line = serde_json::to_string(&Request { id, command })?;
        let mut stdin = lock(&self.stdin);
        writeln!(stdin, "{line}").with_context(|| format!("{} is gone", self.name))?;
        Ok(Pending {
            remote: self,
            id,
            answer,
        })
    }

    /// Runs a request to its end.
    ///
    /// # Errors
    ///
    /// The process is gone, or the request failed.
    pub fn call(&self, command: Command) -> Result<Answer> {
        self.begin(command)?.wait()
    }

    /// Serves TCP on `port` of every address.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub fn serve_tcp(&self, port: u16) -> Result<()> {
        self.call(Command::ServeTcp { port }).map(drop)
    }

    /// Serves HTTP on `port` of every address.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub fn serve_http(&self, port: u16) -> Result<()> {
        let behaviour = Behaviour::default();
        self.call(Command::ServeHttp { port, behaviour }).map(drop)
    }

    /// Serves TLS on `port` of every address, with a certificate and its key.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub fn serve_tls(&self, port: u16, (certificate, key): (&[u8], &[u8])) -> Result<()> {
        let (certificate, key) = (certificate.to_vec(), key.to_vec());
        self.call(Command::ServeTls {
            port,
            certificate,
            key,
        })
        .map(drop)
    }

    /// Answers datagrams on `port` of every address.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub fn serve_udp(&self, port: u16) -> Result<()> {
        self.call(Command::ServeUdp { port }).map(drop)
    }

    /// Sends datagrams.
    ///
    /// # Errors
    ///
    /// The process is gone; lost answers are counted, not errors.
    pub fn datagrams(&self, datagrams: Datagrams) -> Result<Connected> {
        self.begin(Command::Datagrams(datagrams))?.connected()
    }

    /// What a server of TLS says, or the name of the error.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn tls(&self, tls: Tls) -> Result<Result<String, String>> {
        match self.call(Command::Tls(tls))? {
            Answer::Line(line) => Ok(line),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    /// Changes how the HTTP server on `port` answers.
    ///
    /// # Errors
    ///
    /// No server there.
    pub fn behave(&self, port: u16, behaviour: Behaviour) -> Result<()> {
        self.call(Command::Behave { port, behaviour }).map(drop)
    }

    /// What the server on `port` has seen.
    ///
    /// # Errors
    ///
    /// No server there.
    pub fn seen(&self, port: u16) -> Result<Seen> {
        match self.call(Command::Seen { port })? {
            Answer::Seen(seen) => Ok(seen),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    /// Opens TCP connections.
    ///
    /// # Errors
    ///
    /// The process is gone; failed connects are counted, not errors.
    pub fn connect(&self, connect: Connect) -> Result<Connected> {
        self.begin(Command::Connect(connect))?.connected()
    }

    /// One TCP connection to `target`: the greeting of its server, or the name of the error.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn connect_once(&self, target: SocketAddr) -> Result<Result<String, String>> {
        let seen = self.connect(Connect::to(target, 1))?;
        let error = seen.errors.into_keys().next().unwrap_or_default();
        Ok(seen.served.into_keys().next().ok_or(error))
    }

    /// Closes `count` of the connections that request `id` holds.
    ///
    /// # Errors
    ///
    /// Nothing is held.
    pub fn release(&self, id: u64, count: usize) -> Result<()> {
        self.call(Command::Release { id, count }).map(drop)
    }

    /// Sends HTTP requests.
    ///
    /// # Errors
    ///
    /// The process is gone; failed requests are counted, not errors.
    pub fn http(&self, http: Http) -> Result<Replies> {
        self.begin(Command::Http(http))?.replies()
    }

    /// A command that runs in this namespace and cgroup; `router` is this binary's own.
    ///
    /// # Errors
    ///
    /// The own binary cannot be found.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<std::process::Command> {
        inside(&self.network(), &self.cgroup, program.as_ref())
    }

    /// Kills the process with all its connections.
    pub fn kill(&self) {
        let mut child = lock(&self.child);
        // It may be gone already, which is as good.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command that runs in a namespace and a cgroup; `router` is this binary's own.
pub(super) fn inside(network: &Path, cgroup: &Path, program: &OsStr) -> Result<std::process::Command> {
    File::open(network).with_context(|| format!("{} is gone", network.display()))?;
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg(process::INSIDE).arg(network).arg(cgroup).arg(program);
    Ok(command)
}

impl Pending<'_> {
    /// The request's number, by which its connections are released.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// The process is gone, the request failed, or took beyond all patience.
    pub fn wait(self) -> Result<Answer> {
        match self.answer.recv_timeout(PATIENCE) {
            Ok(outcome) => outcome.map_err(|error| anyhow!("{}: {error}", self.remote.name)),
            Err(RecvTimeoutError::Timeout) => bail!("{} gave no answer in {PATIENCE:?}", self.remote.name),
            Err(RecvTimeoutError::Disconnected) => bail!("{} is gone", self.remote.name),
        }
    }

    /// Ends the request early and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`Pending::wait`].
    pub fn stop(self) -> Result<Answer> {
        self.remote.call(Command::Stop { id: self.id })?;
        self.wait()
    }

    /// [`Pending::wait`] for connections.
    ///
    /// # Errors
    ///
    /// As [`Pending::wait`].
    pub fn connected(self) -> Result<Connected> {
        connected(self.wait()?)
    }

    /// [`Pending::wait`] for HTTP replies.
    ///
    /// # Errors
    ///
    /// As [`Pending::wait`].
    pub fn replies(self) -> Result<Replies> {
        replies(self.wait()?)
    }
}

/// The answer to [`Command::Connect`].
///
/// # Errors
///
/// It is another answer.
pub fn connected(answer: Answer) -> Result<Connected> {
    match answer {
        Answer::Connected(connected) => Ok(connected),
        other => bail!("unexpected answer {other:?}"),
    }
}

/// The answer to [`Command::Http`].
///
/// # Errors
///
/// It is another answer.
pub fn replies(answer: Answer) -> Result<Replies> {
    match answer {
        Answer::Replies(replies) => Ok(replies),
        other => bail!("unexpected answer {other:?}"),
    }
}

/// Hands every answer to whom it concerns; when the process ends, nobody waits any more.
fn dispatch(stdout: ChildStdout, waiting: &Waiting) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let Ok(response) = serde_json::from_str::<Response>(&line) else {
            eprintln!("a pod's process said: {line}");
            continue;
        };
        if let Some(sender) = lock(waiting).remove(&response.id) {
            // Who waited may have given up.
            let _ = sender.send(response.outcome);
        }
    }
    lock(waiting).clear();
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
