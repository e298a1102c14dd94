//! A cluster that is large and does nothing: services that a node must know, in the form `kubectl` prints.

use std::{fmt::Write as _, net::Ipv4Addr};

/// First address of the services.
const SERVICES: u32 = u32::from_be_bytes([10, 100, 0, 0]);
/// First address of their endpoints, on nodes that do not exist.
const ENDPOINTS: u32 = u32::from_be_bytes([10, 128, 0, 0]);
/// Port of every service.
const PORT: u16 = 80;

/// So many services, each with so many endpoints, half of them of version v1 and half of v2.
pub(crate) fn services(count: u32, endpoints: u32) -> String {
    let mut text = String::new();
    for number in 0..count {
        service(&mut text, number);
        slice(&mut text, number, endpoints);
    }
    text
}

/// One of [`services`] alone, with its first `ready` endpoints.
pub(crate) fn service_of(number: u32, endpoints: u32, ready: u32) -> String {
    let mut text = String::new();
    service(&mut text, number);
    slice(&mut text, number, 0);
    for index in 0..ready {
        entry(&mut text, number, index, endpoint(number, endpoints, index));
    }
    text
}

/// One rule for each of so many services: a header match, and a default that splits 75/25.
pub(crate) fn rules(count: u32) -> String {
    let mut text = String::new();
    for number in 0..count {
        let _ = write!(
            text,
            "---
type: route-rule
name: s{number}
spec:
  destination: s{number}.load.svc.cluster.local
  route:
  - {{tags: {{version: v1}}, weight: 75}}
  - {{tags: {{version: v2}}, weight: 25}}
"
        );
    }
    text
}

/// The pods behind the endpoints of [`services`], from which versions are known.
pub(crate) fn pods(services: u32, endpoints: u32) -> String {
    let mut text = String::new();
    for number in 0..services {
        for index in 0..endpoints {
            let version = if index % 2 == 0 { "v1" } else { "v2" };
            let address = endpoint(number, endpoints, index);
            let _ = write!(
                text,
                "---
apiVersion: v1
kind: Pod
metadata:
  name: s{number}-{index}
  namespace: load
  labels: {{app: s{number}, version: {version}}}
spec: {{nodeName: elsewhere}}
status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}
"
            );
        }
    }
    text
}

fn service(text: &mut String, number: u32) {
    let address = Ipv4Addr::from(SERVICES + number);
    let _ = write!(
        text,
        "---
apiVersion: v1
kind: Service
metadata: {{name: s{number}, namespace: load}}
spec:
  clusterIP: {address}
  clusterIPs: [{address}]
  selector: {{app: s{number}}}
  ports:
  - {{name: tcp, port: {PORT}, targetPort: {PORT}, protocol: TCP}}
"
    );
}

fn slice(text: &mut String, number: u32, endpoints: u32) {
    let _ = write!(
        text,
        "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: s{number}-1
  namespace: load
  labels: {{kubernetes.io/service-name: s{number}}}
addressType: IPv4
ports:
- {{name: tcp, port: {PORT}, protocol: TCP}}
endpoints:
"
    );
    for index in 0..endpoints {
        entry(text, number, index, endpoint(number, endpoints, index));
    }
}

fn entry(text: &mut String, number: u32, index: u32, address: Ipv4Addr) {
    let _ = write!(
        text,
        "- addresses: [{address}]
  conditions: {{ready: true}}
  nodeName: elsewhere
  targetRef: {{kind: Pod, name: s{number}-{index}, namespace: load}}
"
    );
}

fn endpoint(number: u32, endpoints: u32, index: u32) -> Ipv4Addr {
    Ipv4Addr::from(ENDPOINTS + number * endpoints + index)
}
