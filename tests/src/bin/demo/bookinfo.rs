//! The example's objects become pods: a namespace and a cgroup for every Pod, a server for every port it declares.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use tests::bed::{Node, Pod, PodSpec};

/// The pods of the example on their node, with its files.
pub(crate) struct Bookinfo {
    /// Pods by name. Dropped before the node.
    pub(crate) pods: BTreeMap<String, Pod>,
    /// Frontends by the service's name.
    services: BTreeMap<String, SocketAddr>,
    files: BTreeMap<String, String>,
    pub(crate) node: Node,
}

impl Bookinfo {
    /// Makes what the files of `example` describe.
    pub(crate) fn new(example: &Path) -> Result<Self> {
        let files = read(example)?;
        let node = Node::new()?;
        let mut bookinfo = Self {
            pods: BTreeMap::new(),
            services: BTreeMap::new(),
            files,
            node,
        };
        for text in bookinfo.files.values() {
            for document in serde_yaml::Deserializer::from_str(text) {
                let object = Value::deserialize(document)?;
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                match object["kind"].as_str() {
                    Some("Pod") => {
                        let pod = pod(&bookinfo.node, &object).with_context(|| format!("pod {name}"))?;
                        bookinfo.pods.insert(name, pod);
                    }
                    Some("Service") => {
                        let frontend = frontend(&object).with_context(|| format!("service {name}"))?;
                        bookinfo.services.insert(name, frontend);
                    }
                    _ => {}
                }
            }
        }
        Ok(bookinfo)
    }

    /// Names and texts of the example's files.
    pub(crate) fn files(&self) -> Vec<(&str, &str)> {
        self.files.iter().map(|(name, text)| (&**name, &**text)).collect()
    }

    /// Text of a file.
    pub(crate) fn file(&self, name: &str) -> Result<&str> {
        self.files
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("no file {name}"))
    }

    /// A pod by its name.
    pub(crate) fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods
            .get(name)
            .with_context(|| format!("the example has no pod {name}"))
    }

    /// Where a service is reached.
    pub(crate) fn service(&self, name: &str) -> Result<SocketAddr> {
        self.services
            .get(name)
            .copied()
            .with_context(|| format!("the example has no service {name}"))
    }
}

fn read(example: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(example).with_context(|| format!("reading {}", example.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            files.insert(name, fs::read_to_string(&path)?);
        }
    }
    if files.is_empty() {
        bail!("{} holds no YAML files", example.display());
    }
    Ok(files)
}

fn pod(node: &Node, object: &Value) -> Result<Pod> {
    let metadata = &object["metadata"];
    let text = |field: &str| {
        metadata[field]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("no {field}"))
    };
    let ips = object["status"]["podIPs"].as_array().context("no podIPs")?;
    let addresses = ips.iter().filter_map(|ip| ip["ip"].as_str()?.parse().ok());
    let pod = node.add(PodSpec {
        name: text("name")?,
        uid: text("uid")?,
        addresses: addresses.collect(),
        labels: serde_json::from_value(metadata["labels"].clone())?,
    })?;
    let containers = object["spec"]["containers"].as_array().context("no containers")?;
    for port in containers.iter().filter_map(|c| c["ports"].as_array()).flatten() {
        let number = port["containerPort"].as_u64().and_then(|n| u16::try_from(n).ok());
        let number = number.context("no containerPort")?;
        match port["name"].as_str().unwrap_or_default() {
            name if name.starts_with("http") => pod.serve_http(number)?,
            _ => pod.serve_tcp(number)?,
        }
    }
    Ok(pod)
}

fn frontend(object: &Value) -> Result<SocketAddr> {
    let spec = &object["spec"];
    let ip: IpAddr = spec["clusterIP"].as_str().context("no clusterIP")?.parse()?;
    let port = spec["ports"][0]["port"]
        .as_u64()
        .and_then(|n| u16::try_from(n).ok());
    Ok(SocketAddr::new(ip, port.context("no port")?))
}
