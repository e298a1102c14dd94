//! Heap allocations of the proxy for one request, counted on the thread that serves it.
//!
//! docs/performance.md says what each is for. `ROUTER_TEST_ALLOCATIONS=1 cargo test -p tests --test allocations --
//! --nocapture` shows where each is made.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    backtrace::Backtrace,
    cell::Cell,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::BorrowedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use router_rules::{
    Snapshot,
    id::{Origin as Written, ServiceName},
    labels::Labels,
    model::{Endpoint, Match, Model, Port, Protocol, Rule, Service},
    text::TextMatch,
};
use router_userspace::{
    enforce::{Enforcement, Origin},
    live::Live,
    proxy::{self, Proxy, ProxyConfig},
    registry::Callers,
};

#[path = "allocations/http2.rs"]
mod http2;

/// Most allocations for one request of HTTP/1.1: keep-alive on both sides, no access log, no faults, no retries.
const MOST: u64 = 10;
const WARM_UP: usize = 50;
const REQUESTS: usize = 200;

thread_local! {
    /// True on the threads of the proxy, and false while one of their allocations is looked at.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static SHOW: AtomicBool = AtomicBool::new(false);
static SHOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Notes an allocation, unless it is made by a thread that is not counted.
fn note() {
    // A thread that ends has no such variable any more.
    if !COUNTED
        .try_with(|counted| counted.replace(false))
        .unwrap_or(false)
    {
        return;
    }
    ALLOCATIONS.fetch_add(1, SeqCst);
    if SHOW.load(SeqCst) {
        SHOWN.lock().unwrap().push(Backtrace::force_capture().to_string());
    }
    COUNTED.with(|counted| counted.set(true));
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

const SERVICE: &str = "reviews.default.svc.cluster.local";
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 8, 7));

/// The kernel, and the mark of the proxy's threads: they ask for the origin of what they accept.
struct Kernel;

impl Enforcement for Kernel {
    fn origin(&self, _: BorrowedFd<'_>) -> io::Result<Option<Origin>> {
        COUNTED.with(|counted| counted.set(true));
        Ok(Some(Origin {
            destination: SocketAddr::new(ADDRESS, 80),
            cgroup: 7,
            confined: false,
        }))
    }

    fn claim(&self, _: BorrowedFd<'_>, _: Option<&str>, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    fn has_room(&self, _: &str) -> bool {
        true
    }

    fn over_limit(&self, _: BorrowedFd<'_>) -> bool {
        false
    }
}

impl Callers for Kernel {
    fn workload(&self, _: u64) -> Option<Arc<str>> {
        Some("default/productpage".into())
    }
}

/// A hundred rules, of which the last takes the request.
fn model(endpoint: SocketAddr, protocol: Protocol) -> Model {
    let name = ServiceName::new(SERVICE);
    let rule = |number: i32| {
        let origin = Written {
            object: format!("route-rule {number}").into(),
            file: "f".into(),
            line: 1,
        };
        let user = TextMatch::Exact(format!("user-{number}"));
        let condition = Match {
            headers: vec![("x-user".parse().unwrap(), user)],
            ..Match::default()
        };
        Rule {
            precedence: number,
            any_of: if number == 0 { Vec::new() } else { vec![condition] },
            ..Rule::new(origin, name.clone())
        }
    };
    Model {
        services: vec![Service {
            name: name.clone(),
            addresses: vec![ADDRESS],
            ports: vec![Port {
                number: 80,
                name: None,
                protocol,
                endpoints: vec![Endpoint {
                    address: endpoint,
                    labels: Arc::new(Labels::default()),
                    workload: None,
                }],
            }],
        }],
        rules: (0..100).map(rule).collect(),
        ..Model::default()
    }
}

/// Reads a head to its end; the messages here have no bodies but of a known length.
fn read_message(stream: &mut TcpStream, body: usize) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 1024];
        let n = stream.read(&mut part)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&part[..n]);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if end.is_some_and(|end| bytes.len() >= end + 4 + body) {
            return Ok(());
        }
    }
}

const BODY: usize = 64;

fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {BODY}\r\n\r\n");
                let answer = head + &"x".repeat(BODY);
                while read_message(&mut stream, 0).is_ok() {
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    address
}

/// A proxy of one thread in front of `endpoint`.
fn start(endpoint: SocketAddr, protocol: Protocol) -> Proxy {
    let live = Arc::new(Live::new(Snapshot::build(model(endpoint, protocol), 1)));
    let kernel = Arc::new(Kernel);
    let config = ProxyConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        threads: 1,
        limits: Default::default(),
        access: None,
        disclosure: Default::default(),
        outliers: Default::default(),
        gateways: Vec::new(),
    };
    proxy::start(config, live, kernel.clone(), kernel).unwrap()
}

/// How often a request allocates that `ask` sends; no more than `most` times.
fn measure(mut ask: impl FnMut(), most: u64) {
    (0..WARM_UP).for_each(|_| ask());
    let mut counts: Vec<u64> = (0..REQUESTS)
        .map(|_| {
            let before = ALLOCATIONS.load(SeqCst);
            ask();
            ALLOCATIONS.load(SeqCst) - before
        })
        .collect();
    // The median: once a second the server writes its date anew, and pools are tidied.
    counts.sort_unstable();
    let each = counts[REQUESTS / 2];
    println!("{each} allocations for each request");
    if std::env::var_os("ROUTER_TEST_ALLOCATIONS").is_some() {
        SHOW.store(true, SeqCst);
        ask();
        SHOW.store(false, SeqCst);
        let shown = std::mem::take(&mut *SHOWN.lock().unwrap());
        shown.iter().for_each(|place| println!("{place}\n----"));
    }
    assert!(each > 0, "the proxy's thread is not counted");
    assert!(
        each <= most,
        "{each} allocations for each request, at most {most} are explained"
    );
}

/// What is counted is the whole process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_request_allocates_little() {
    let _alone = alone();
    let proxy = start(serve(), Protocol::Http);
    let mut client = TcpStream::connect(proxy.addresses()[0]).unwrap();
    client.set_nodelay(true).unwrap();
    let request = format!(
        "GET /reviews/1 HTTP/1.1\r\nhost: {SERVICE}\r\nuser-agent: test/1\r\naccept: */*\r\nx-user: guest\r\n\
         cookie: session=0f3c9a17d2\r\n\r\n"
    );
    let ask = || {
        client.write_all(request.as_bytes()).unwrap();
        read_message(&mut client, BODY).unwrap();
    };
    measure(ask, MOST);
}
