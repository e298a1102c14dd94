//! nginx in a pod, behind a service with a rule, so that every request passes the proxy.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tests::{
    bed::{Agent, Manifest, Node, Pod, ServicePort},
    cluster::{route, rule},
    wait,
};

const PORT: u16 = 8080;

/// Where the service is reached.
pub(crate) const FRONTEND: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 40)), 80);

/// Bytes of the large file: many times what any buffer on the way holds.
pub(crate) const LARGE: usize = 32 << 20;

const READY_WITHIN: Duration = Duration::from_secs(20);

/// A client pod and an nginx pod on a node. Fields are dropped in order.
pub(crate) struct Site {
    nginx: Child,
    pub(crate) client: Pod,
    server: Pod,
    pub(crate) node: Node,
}

impl Site {
    pub(crate) fn new() -> Result<Self> {
        let node = Node::new()?;
        let server = node.pod("nginx", &[("app", "site"), ("version", "v1")])?;
        let client = node.pod("client", &[("app", "client")])?;
        let directory = node.scratch().directory();
        let root = directory.join("www");
        fs::create_dir(&root)?;
        fs::write(root.join("large"), large())?;
        fs::write(root.join("index.html"), "hello\n")?;
        let configuration = directory.join("nginx.conf");
        fs::write(&configuration, nginx_configuration(&root.display().to_string()))?;
        let nginx = server
            .command("nginx")?
            .arg("-p")
            .arg(directory)
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .spawn()
            .context("starting nginx")?;
        let site = Self {
            nginx,
            client,
            server,
            node,
        };
        let target = format!("http://{}/", site.server.v4(PORT));
        wait::until("nginx to serve", READY_WITHIN, || {
            site.curl(&[&target])
                .ok()
                .filter(|output| output.stdout == b"hello\n")
                .map(drop)
        })?;
        Ok(site)
    }

    /// The agent, with a rule for the site.
    pub(crate) fn agent(&self) -> Result<Agent<'_>> {
        let port = ServicePort {
            name: "http",
            port: FRONTEND.port(),
            target: PORT,
        };
        let registry = Manifest::new()
            .pods([&self.client, &self.server])
            .service("site", &[FRONTEND.ip()], &[port], &[&self.server])
            .yaml()?;
        let rules = rule("site", "site", &route(&[("v1", 100)]));
        Agent::start(
            &self.node,
            &[("registry.yaml", &registry), ("rules.yaml", &rules)],
        )
    }

    /// curl in the client pod; succeeds only when curl does.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Result<Output> {
        let mut curl = self.client.command("curl")?;
        curl.args(["-sS", "--noproxy", "*", "--max-time", "60"])
            .args(arguments);
        run(curl)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

/// Runs a command; its failure is an error that shows what it said.
pub(crate) fn run(mut command: Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {} {said}", output.status);
    Ok(output)
}

/// The large file: no two parts of it are alike, so that a part that is lost, doubled or moved shows.
pub(crate) fn large() -> Vec<u8> {
    (0..LARGE as u64 / 8)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}

fn nginx_configuration(root: &str) -> String {
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr crit;\nevents {{}}\n\
         http {{\n  access_log off;\n  client_max_body_size 0;\n  client_body_temp_path body;\n  \
         proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n  uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n  \
         keepalive_requests 1000000;\n  server {{\n    listen {PORT};\n    root {root};\n    \
         location = /echo {{ return 200 \"$request_method $http_host $http_x_forwarded_for\\n\"; }}\n    \
         location = /moved {{ return 302 /elsewhere; }}\n  }}\n}}\n"
    )
}
