//! Envoy as its documentation says for speed: rules in a matching tree keyed by the header (a hash; the usual list of
//! routes is looked through in order), a worker for each processor, no statistics of its own beyond the default, no
//! access log, HTTP/2 to the servers where the client speaks it.

use std::{path::Path, process::Child};

use anyhow::Result;
use serde_json::{Value, json};

use super::{HTTP1, HTTP2, Size, WEIGHTS, servers, spawn, users};
use crate::{serve, stage::Stage};

pub(super) fn start(stage: &Stage, size: Size, program: &Path) -> Result<Child> {
    let path = stage.write("envoy.json", &configuration(stage, size).to_string())?;
    let path = path.to_string_lossy();
    spawn(
        stage,
        program,
        &[
            "-c",
            &path,
            "--concurrency",
            "2",
            "-l",
            "critical",
            "--disable-hot-restart",
        ],
    )
}

fn configuration(stage: &Stage, size: Size) -> Value {
    let mut listeners = vec![
        http_listener(HTTP1, size, "http1"),
        http_listener(HTTP2, size, "http2"),
    ];
    let mut clusters = Vec::new();
    let pods = servers(stage);
    for (name, is_http2) in [("http1", false), ("http2", true)] {
        for (index, version) in ["v1", "v2"].iter().enumerate() {
            clusters.push(http_cluster(
                &format!("{name}-{version}"),
                &pods[index..=index],
                is_http2,
            ));
        }
    }
    for port in [serve::GREET, serve::ECHO, serve::SINK] {
        listeners.push(tcp_listener(port));
        for (index, version) in ["v1", "v2"].iter().enumerate() {
            clusters.push(cluster(
                &format!("tcp{port}-{version}"),
                &pods[index..=index],
                port,
            ));
        }
    }
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}})
}

fn http_listener(port: u16, size: Size, name: &str) -> Value {
    let to_v2 = json!({"cluster": format!("{name}-v2"), "timeout": "15s"});
    let clusters: Vec<_> = ["v1", "v2"]
        .iter()
        .zip(WEIGHTS)
        .map(|(version, weight)| json!({"name": format!("{name}-{version}"), "weight": weight}))
        .collect();
    let split = json!({"weighted_clusters": {"clusters": clusters}, "timeout": "15s"});
    let users: serde_json::Map<_, _> = users(size).map(|user| (user, route(&to_v2))).collect();
    let mut host = json!({"name": "web", "domains": ["*"]});
    if users.is_empty() {
        host["routes"] = json!([{"match": {"prefix": "/"}, "route": split}]);
    } else {
        host["matcher"] = json!({
            "matcher_tree": {
                "input": {"name": "user", "typed_config": {
                    "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
                    "header_name": "x-user",
                }},
                "exact_match_map": {"map": users},
            },
            "on_no_match": route(&split),
        });
    }
    let proxy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name, "codec_type": "AUTO", "use_remote_address": true, "generate_request_id": true,
        "route_config": {"name": name, "virtual_hosts": [host]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        }}],
    });
    listener(port, "envoy.filters.network.http_connection_manager", &proxy)
}

fn route(action: &Value) -> Value {
    json!({"action": {"name": "route", "typed_config": {
        "@type": "type.googleapis.com/envoy.config.route.v3.Route",
        "match": {"prefix": "/"}, "route": action,
    }}})
}

fn tcp_listener(port: u16) -> Value {
    let clusters: Vec<_> = ["v1", "v2"]
        .iter()
        .zip(WEIGHTS)
        .map(|(version, weight)| json!({"name": format!("tcp{port}-{version}"), "weight": weight}))
        .collect();
    let proxy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "tcp", "weighted_clusters": {"clusters": clusters},
    });
    listener(port, "envoy.filters.network.tcp_proxy", &proxy)
}

fn listener(port: u16, filter: &str, config: &Value) -> Value {
    json!({
        "name": format!("port{port}"), "enable_reuse_port": true, "tcp_backlog_size": 4096,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "filter_chains": [{"filters": [{"name": filter, "typed_config": config}]}],
    })
}

fn cluster(name: &str, pods: &[std::net::IpAddr], port: u16) -> Value {
    let endpoints: Vec<_> = pods
        .iter()
        .map(|pod| json!({"endpoint": {"address": {"socket_address": {"address": pod, "port_value": port}}}}))
        .collect();
    // The breakers of Envoy open at 1,024 by default; the others have none.
    let limit = 100_000;
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s", "lb_policy": "ROUND_ROBIN",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "circuit_breakers": {"thresholds": [{
            "max_connections": limit, "max_pending_requests": limit, "max_requests": limit, "max_retries": 0,
        }]},
    })
}

fn http_cluster(name: &str, pods: &[std::net::IpAddr], is_http2: bool) -> Value {
    let mut cluster = cluster(name, pods, serve::HTTP);
    let protocol = if is_http2 {
        "http2_protocol_options"
    } else {
        "http_protocol_options"
    };
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {protocol: {}},
        },
    });
    cluster
}
