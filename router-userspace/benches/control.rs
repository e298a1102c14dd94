//! Where the time and the memory of a large configuration go, stage by stage: text → documents → model → snapshot →
//! maps. `cargo bench -p router-userspace --bench control`; sizes as arguments: services, endpoints.
//!
//! It knows neither the kernel nor the agent: maps are written nowhere.

use std::{collections::BTreeMap, fmt::Write as _, fs, net::Ipv4Addr, path::Path, time::Instant};

use router_common::{
    endpoint::{Endpoint, EndpointState},
    limit::Limit,
    net::{Addr, Be16},
    network::{NetworkEntry, NetworkKey},
    route::{RouteWord, Subset},
    service::{FrontendKey, Service},
};
use router_rules::{Snapshot, outlier::Ejected};
use router_userspace::{
    compile::{Memo, compile},
    config::{Directory, LoadLimits, Suspects},
    datapath::{
        desired::{Inputs, OnProxyDown},
        mirror::Mirror,
        state::State,
        store::{EgressStore, Grace, MapStore, Result},
    },
};

/// First address of the services.
const SERVICES: u32 = u32::from_be_bytes([10, 100, 0, 0]);
/// First address of their endpoints.
const ENDPOINTS: u32 = u32::from_be_bytes([10, 128, 0, 0]);

fn main() {
    let mut sizes = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse::<u32>().ok());
    let (services, endpoints) = (sizes.next().unwrap_or(5_000), sizes.next().unwrap_or(20));
    let directory = tempfile::tempdir().expect("a temporary directory");
    write(directory.path(), services, endpoints);
    println!("{services} services × {endpoints} endpoints, {services} rules");
    println!(
        "{:<34}{:>10}{:>10}{:>14}",
        "stage", "ms", "CPU ms", "resident MiB"
    );
    start(directory.path());
}

/// From nothing, then one change of endpoints alone, then one of more than endpoints.
fn start(path: &Path) {
    let file = path.join("changing.yaml");
    fs::write(&file, change(1)).expect("room in the temporary directory");
    let mut directory = Directory::new(path.to_owned(), LoadLimits::default());
    timed("read and parse", || directory.look(&Suspects::All));
    let compiled = timed("compile", || compile(&directory.documents())).expect("a sound configuration");
    let mut memo = timed("remember", || Memo::new(directory.files(), &compiled));
    directory.settle();
    let callers = BTreeMap::new();
    let mut snapshot = timed("snapshot", || Snapshot::build(compiled.model, 1));
    let mut mirror = Mirror::new(State::default());
    let mut reconcile = |stage: &str, snapshot: &Snapshot| {
        let inputs = Inputs {
            snapshot,
            sources: &callers,
            on_proxy_down: OnProxyDown::Direct,
            ejected: &Ejected::default(),
            confined: None,
        };
        let report = timed(stage, || mirror.reconcile(&inputs, &mut Nowhere, |_| {}));
        println!("{:?}", report.expect("room for everything"));
    };
    reconcile("desired, plan and apply", &snapshot);

    fs::write(&file, change(2)).expect("room in the temporary directory");
    let suspects = Suspects::Files([file.clone()].into());
    timed("endpoints: read and parse", || directory.look(&suspects));
    let followed = timed("endpoints: follow", || memo.follow(&directory.changed()?));
    let followed = followed.expect("nothing else is different");
    let next = timed("endpoints: snapshot", || {
        snapshot.with_endpoints(&followed.change, 2)
    });
    let next = next.expect("nobody asks for more");
    memo.advance(followed);
    directory.settle();
    reconcile("endpoints: plan and apply", &next);
    timed("endpoints: drop the last snapshot", || snapshot = next);

    fs::write(&file, change(2).replace("port: 80", "port: 81")).expect("room in the temporary directory");
    timed("change: read and parse", || directory.look(&suspects));
    let compiled =
        timed("change: compile", || compile(&directory.documents())).expect("a sound configuration");
    let next = timed("change: snapshot", || Snapshot::build(compiled.model, 3));
    reconcile("change: desired, plan and apply", &next);
    timed("change: drop the last snapshot", || snapshot = next);
    drop(snapshot);
}

/// A service with an endpoint: one of another service's pods.
fn change(pod: u32) -> String {
    let address = Ipv4Addr::from(ENDPOINTS + pod);
    format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: changing, namespace: load}}
spec: {{clusterIP: 10.96.0.2, ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: changing-1, namespace: load, labels: {{kubernetes.io/service-name: changing}}}}
addressType: IPv4
ports: [{{port: 80}}]
endpoints: [{{addresses: [{address}], targetRef: {{kind: Pod, name: s0-{pod}}}}}]
"
    )
}

fn timed<T>(stage: &str, work: impl FnOnce() -> T) -> T {
    let (begin, cpu) = (Instant::now(), processor_ms());
    let made = work();
    let wall = begin.elapsed().as_secs_f64() * 1e3;
    let cpu = processor_ms() - cpu;
    println!("{stage:<34}{wall:>10.2}{cpu:>10.2}{:>14.1}", resident_mib());
    made
}

/// Processor time of this thread.
fn processor_ms() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse::<f64>().ok());
    nanoseconds.unwrap_or_default() / 1e6
}

/// Resident memory now.
fn resident_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

/// A directory as `kubectl get -o yaml` would fill it, a file for each service, with pods and rules beside.
fn write(directory: &Path, services: u32, endpoints: u32) {
    let (mut pods, mut rules) = (String::new(), String::new());
    for service in 0..services {
        let mut registry = String::new();
        let cluster = Ipv4Addr::from(SERVICES + service);
        let _ = write!(
            registry,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{service}, namespace: load}}\nspec:\n  \
             clusterIP: {cluster}\n  clusterIPs: [{cluster}]\n  selector: {{app: s{service}}}\n  ports:\n  \
             - {{name: tcp, port: 80, targetPort: 80, protocol: TCP}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: s{service}-1\n  \
             namespace: load\n  labels: {{kubernetes.io/service-name: s{service}}}\naddressType: IPv4\nports:\n\
             - {{name: tcp, port: 80, protocol: TCP}}\nendpoints:\n"
        );
        for index in 0..endpoints {
            let address = Ipv4Addr::from(ENDPOINTS + service * endpoints + index);
            let version = if index % 2 == 0 { "v1" } else { "v2" };
            let _ = write!(
                registry,
                "- addresses: [{address}]\n  conditions: {{ready: true}}\n  nodeName: elsewhere\n  \
                 targetRef: {{kind: Pod, name: s{service}-{index}, namespace: load}}\n"
            );
            let _ = write!(
                pods,
                "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: s{service}-{index}\n  namespace: load\n  \
                 labels: {{app: s{service}, version: {version}}}\nspec: {{nodeName: elsewhere}}\n\
                 status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}\n"
            );
        }
        fs::write(directory.join(format!("s{service}.yaml")), registry)
            .expect("room in the temporary directory");
        let _ = write!(
            rules,
            "---\ntype: route-rule\nname: s{service}\nspec:\n  \
             destination: s{service}.load.svc.cluster.local\n  route:\n  \
             - {{tags: {{version: v1}}, weight: 75}}\n  - {{tags: {{version: v2}}, weight: 25}}\n"
        );
    }
    for (name, text) in [("pods.yaml", pods), ("rules.yaml", rules)] {
        fs::write(directory.join(name), text).expect("room in the temporary directory");
    }
}

/// Maps that remember nothing.
struct Nowhere;

impl EgressStore for Nowhere {
    fn insert_network(&mut self, _: NetworkKey, _: NetworkEntry) -> Result<()> {
        Ok(())
    }
    fn remove_network(&mut self, _: NetworkKey) -> Result<()> {
        Ok(())
    }
    fn insert_address(&mut self, _: Addr) -> Result<()> {
        Ok(())
    }
    fn remove_address(&mut self, _: Addr) -> Result<()> {
        Ok(())
    }
    fn insert_confinement(&mut self, _: u64, _: u32) -> Result<()> {
        Ok(())
    }
    fn remove_confinement(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
    fn networks(&self) -> Result<Vec<(NetworkKey, NetworkEntry)>> {
        Ok(Vec::new())
    }
    fn addresses(&self) -> Result<Vec<Addr>> {
        Ok(Vec::new())
    }
    fn confinement(&self) -> Result<Vec<(u64, u32)>> {
        Ok(Vec::new())
    }
}

impl MapStore for Nowhere {
    fn write_endpoints(&mut self, _: u32, _: &[Endpoint]) -> Result<()> {
        Ok(())
    }
    fn write_subset(&mut self, _: u32, _: &Subset) -> Result<()> {
        Ok(())
    }
    fn write_slots(&mut self, _: u32, _: &[u64]) -> Result<()> {
        Ok(())
    }
    fn write_limit(&mut self, _: u32, _: u64, _: u64) -> Result<()> {
        Ok(())
    }
    fn clear_limit(&mut self, _: u32) -> Result<()> {
        Ok(())
    }
    fn write_endpoint_state(&mut self, _: u32, _: Addr, _: Be16) -> Result<()> {
        Ok(())
    }
    fn clear_endpoint_state(&mut self, _: u32) -> Result<()> {
        Ok(())
    }
    fn create_service(&mut self, _: u32, _: u64, _: RouteWord) -> Result<()> {
        Ok(())
    }
    fn publish(&mut self, _: u32, _: RouteWord) -> Result<()> {
        Ok(())
    }
    fn forget_service(&mut self, _: u32) -> Result<()> {
        Ok(())
    }
    fn insert_frontend(&mut self, _: FrontendKey, _: u32) -> Result<()> {
        Ok(())
    }
    fn remove_frontend(&mut self, _: FrontendKey) -> Result<()> {
        Ok(())
    }
    fn insert_source(&mut self, _: u64, _: u32) -> Result<()> {
        Ok(())
    }
    fn begin_handover(&mut self) -> Result<()> {
        Ok(())
    }
    fn keep_handover(&mut self, _: bool) -> Result<()> {
        Ok(())
    }
    fn remove_source(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
    fn slot(&self, _: u32) -> u64 {
        0
    }
    fn subset(&self, _: u32) -> Subset {
        Subset::default()
    }
    fn endpoint(&self, _: u32) -> Endpoint {
        Endpoint::default()
    }
    fn service(&self, _: u32) -> Service {
        Service::default()
    }
    fn limit(&self, _: u32) -> Limit {
        Limit::default()
    }
    fn endpoint_state(&self, _: u32) -> EndpointState {
        EndpointState::default()
    }
    fn frontends(&self) -> Result<Vec<(FrontendKey, u32)>> {
        Ok(Vec::new())
    }
    fn sources(&self) -> Result<Vec<(u64, u32)>> {
        Ok(Vec::new())
    }
    fn request_grace(&mut self) -> Result<Grace> {
        Ok(Grace::default())
    }
    fn completed_grace(&mut self) -> Grace {
        Grace::default()
    }
    fn await_grace(&mut self, _: Grace) -> Result<()> {
        Ok(())
    }
}
