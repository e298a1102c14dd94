//! HAProxy as its documentation says for speed: rules in a map file (a tree), kept and shared connections to the
//! servers (`http-reuse always`), a thread for each processor, no log.

use std::{fmt::Write as _, path::Path, process::Child};

use anyhow::Result;

use super::{HTTP1, HTTP2, Size, WEIGHTS, servers, spawn, users};
use crate::{serve, stage::Stage};

pub(super) fn start(stage: &Stage, size: Size) -> Result<Child> {
    let mut map = String::new();
    for user in users(size) {
        let _ = writeln!(map, "{user} v2");
    }
    let map = stage.write("users.map", &map)?;
    let path = stage.write("haproxy.cfg", &configuration(stage, &map))?;
    spawn(
        stage,
        Path::new("haproxy"),
        &["-db", "-f", &path.to_string_lossy()],
    )
}

fn configuration(stage: &Stage, map: &Path) -> String {
    let [v1, v2] = [0, 1].map(|index| servers(stage)[index]);
    let [w1, w2] = WEIGHTS;
    let port = serve::HTTP;
    let map = map.display();
    let mut text = format!(
        "global
  maxconn 8000
  nbthread 2
  tune.bufsize 32768
defaults
  mode http
  maxconn 8000
  retries 0
  timeout connect 5s
  timeout client 3600s
  timeout server 15s
  timeout http-keep-alive 3600s
  http-reuse always
  balance roundrobin
frontend http1
  option forwardfor
  unique-id-format %[uuid()]
  unique-id-header x-request-id
  bind :{HTTP1} backlog 4096
  use_backend %[req.hdr(x-user),map_str({map},all)]
frontend http2
  option forwardfor
  unique-id-format %[uuid()]
  unique-id-header x-request-id
  bind :{HTTP2} proto h2 backlog 4096
  use_backend %[req.hdr(x-user),map_str({map},all2)]
backend all
  server v1 {v1}:{port} weight {w1}
  server v2 {v2}:{port} weight {w2}
backend v2
  server v2 {v2}:{port}
backend all2
  server v1 {v1}:{port} weight {w1} proto h2
  server v2 {v2}:{port} weight {w2} proto h2
"
    );
    for port in [serve::GREET, serve::ECHO, serve::SINK] {
        let _ = write!(
            text,
            "listen tcp{port}
  mode tcp
  bind :{port} backlog 4096
  server v1 {v1}:{port} weight {w1}
  server v2 {v2}:{port} weight {w2}
"
        );
    }
    text
}
