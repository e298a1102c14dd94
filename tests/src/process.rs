//! What the test binary becomes when it is run again: a pod's process, the `router` command line, or any command in
//! a pod's namespace and cgroup.
//!
//! It knows nothing of tests, nodes or expectations; it does what it is told and tells what it saw.

mod http_client;
mod http_server;
mod network;
mod tcp_client;
mod tcp_server;
mod tls;
mod udp;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::{BufRead, Write},
    net::TcpStream,
    os::unix::process::CommandExt,
    path::Path,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, bail};

use crate::{
    protocol::{Answer, Command, Request, Response},
    sys,
};

/// Hidden argument: `pod-process NAME CGROUP`.
pub const POD: &str = "pod-process";
/// Hidden argument: `inside NETWORK CGROUP PROGRAM ARGUMENT…`.
pub const INSIDE: &str = "inside";

/// Runs the part that the arguments name, and returns how the process is to end; `None` when they name none.
pub fn dispatch() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match arguments.get(1).and_then(|a| a.to_str()) {
        Some(POD) => Some(report(pod(&arguments[2..]))),
        Some(INSIDE) => Some(report(inside(&arguments[2..]))),
        Some("router") => Some(router_userspace::cli::run(arguments.into_iter().skip(1))),
        _ => None,
    }
}

fn report(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

/// Puts this process into a cgroup.
fn join(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0").with_context(|| format!("joining {}", cgroup.display()))
}

fn inside(arguments: &[OsString]) -> Result<ExitCode> {
    let [network, cgroup, program, rest @ ..] = arguments else {
        bail!("{INSIDE} wants a network, a cgroup and a program");
    };
    sys::die_with_parent()?;
    join(Path::new(cgroup))?;
    sys::enter_network(&File::open(network)?).context("entering the network namespace")?;
    if program == "router" {
        let arguments = std::iter::once(program).chain(rest).cloned();
        return Ok(router_userspace::cli::run(arguments));
    }
    Err(std::process::Command::new(program).args(rest).exec()).context("running the program")
}

fn pod(arguments: &[OsString]) -> Result<ExitCode> {
    let [name, cgroup] = arguments else {
        bail!("{POD} wants a name and a cgroup");
    };
    join(Path::new(cgroup))?;
    sys::leave_network()?;
    sys::raise_open_files();
    let process = Arc::new(Process::new(&name.to_string_lossy()));
    process.answer(0, Ok(Answer::Done));
    for line in std::io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let process = process.clone();
        // Registered before the next line is read, so that a `Stop` finds what it is to stop.
        let stop = process.begin(request.id);
        std::thread::spawn(move || {
            let outcome = process.run(request.id, request.command, &stop);
            process.answer(request.id, outcome.map_err(|error| format!("{error:#}")));
            process.stops().remove(&request.id);
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// The state of a pod's process.
struct Process {
    name: Arc<str>,
    tcp: Mutex<BTreeMap<u16, Arc<tcp_server::TcpServer>>>,
    http: Mutex<BTreeMap<u16, Arc<http_server::HttpServer>>>,
    held: Mutex<BTreeMap<u64, Vec<TcpStream>>>,
    stops: Mutex<BTreeMap<u64, Arc<AtomicBool>>>,
}

impl Process {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            tcp: Mutex::default(),
            http: Mutex::default(),
            held: Mutex::default(),
            stops: Mutex::default(),
        }
    }

    fn stops(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<AtomicBool>>> {
        lock(&self.stops)
    }

    fn begin(&self, id: u64) -> Arc<AtomicBool> {
        self.stops().entry(id).or_default().clone()
    }

    fn answer(&self, id: u64, outcome: Result<Answer, String>) {
        let response = serde_json::to_string(&Response { id, outcome });
        let line =
            response.unwrap_or_else(|error| format!("{{\"id\":{id},\"outcome\":{{\"Err\":\"{error}\"}}}}"));
        let mut stdout = std::io::stdout().lock();
        // A closed pipe means that the test is gone, and standard input says so too.
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }

    fn run(&self, id: u64, command: Command, stop: &Arc<AtomicBool>) -> Result<Answer> {
        match command {
            Command::BecomeNode => network::become_node()?,
            Command::Plug(plug) => network::plug(&plug)?,
            Command::BecomePod { addresses } => network::become_pod(&addresses)?,
            Command::ServeTcp { port } => {
                lock(&self.tcp).insert(port, tcp_server::start(&self.name, port)?);
            }
            Command::ServeHttp { port, behaviour } => {
                lock(&self.http).insert(port, http_server::start(&self.name, port, behaviour)?);
            }
            Command::ServeUdp { port } => udp::serve(&self.name, port)?,
            Command::Datagrams(datagrams) => return udp::ask(&datagrams, stop).map(Answer::Connected),
            Command::ServeTls {
                port,
                certificate,
                key,
            } => tls::serve(&self.name, port, certificate, key)?,
            Command::Tls(tls) => {
                return Ok(Answer::Line(
                    tls::read_line(&tls).map_err(|e| tcp_client::name(&e)),
                ));
            }
            Command::Behave { port, behaviour } => {
                lock(&self.http)
                    .get(&port)
                    .context("no HTTP server there")?
                    .behave(behaviour);
            }
            Command::Seen { port } => return self.seen(port),
            Command::Connect(connect) => {
                let (connected, open) = tcp_client::run(&connect, stop);
                lock(&self.held).insert(id, open);
                return Ok(Answer::Connected(connected));
            }
            Command::Release { id, count } => {
                let mut held = lock(&self.held);
                let open = held.get_mut(&id).context("nothing is held for that request")?;
                open.truncate(open.len().saturating_sub(count));
            }
            Command::Http(http) => return http_client::run(http, stop.clone()).map(Answer::Replies),
            Command::Stop { id } => {
                if let Some(stop) = self.stops().get(&id) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
        Ok(Answer::Done)
    }

    fn seen(&self, port: u16) -> Result<Answer> {
        if let Some(server) = lock(&self.tcp).get(&port) {
            return Ok(Answer::Seen(server.seen()));
        }
        let http = lock(&self.http);
        Ok(Answer::Seen(http.get(&port).context("no server there")?.seen()))
    }
}

/// Locks; a thread that panicked has already reported, and the state stays usable.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A listening socket on every address of both families.
fn listen(port: u16) -> Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    let any = std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
    socket
        .bind(&any.into())
        .with_context(|| format!("binding port {port}"))?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// A runtime on the calling thread.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}
