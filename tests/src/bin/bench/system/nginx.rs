//! nginx as its documentation says for speed: rules in a `map` (a hash), upstreams with kept connections, `reuseport`,
//! `tcp_nodelay`, no access log, a worker for each processor; TCP by the stream module.

use std::{fmt::Write as _, path::Path, process::Child};

use anyhow::Result;

use super::{HTTP1, HTTP2, Size, WEIGHTS, servers, spawn, users};
use crate::{serve, stage::Stage};

/// Where Debian puts the stream module.
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) fn start(stage: &Stage, size: Size) -> Result<Child> {
    let path = stage.write("nginx.conf", &configuration(stage, size))?;
    let prefix = stage.file("");
    spawn(
        stage,
        Path::new("nginx"),
        &["-p", &prefix.to_string_lossy(), "-c", &path.to_string_lossy()],
    )
}

fn configuration(stage: &Stage, size: Size) -> String {
    let directory = stage.file("");
    let directory = directory.display();
    let mut text = format!(
        "load_module {STREAM};
daemon off;
user root;
worker_processes auto;
worker_rlimit_nofile 65536;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 16384; multi_accept on; }}
"
    );
    stream(&mut text, stage);
    let _ = write!(
        text,
        "http {{
  access_log off;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  keepalive_timeout 3600;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
"
    );
    pools(&mut text, stage, size);
    for (port, protocol) in [(HTTP1, ""), (HTTP2, "http2 ")] {
        let _ = write!(
            text,
            "  server {{\n    listen {port} {protocol}reuseport backlog=4096;\n{LOCATION}  }}\n"
        );
    }
    text.push_str("}\n");
    text
}

/// What both HTTP servers do.
const LOCATION: &str = "    http2_max_requests 1000000000;
    location / {
      proxy_pass http://$pool;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Request-ID $request_id;
      proxy_read_timeout 15s;
      proxy_next_upstream off;
      proxy_buffers 16 64k;
      proxy_buffer_size 64k;
      proxy_busy_buffers_size 128k;
      proxy_max_temp_file_size 0;
    }
";

/// TCP.
fn stream(text: &mut String, stage: &Stage) {
    let [v1, v2] = [0, 1].map(|index| servers(stage)[index]);
    let [w1, w2] = WEIGHTS;
    text.push_str("stream {\n");
    for port in [serve::GREET, serve::ECHO, serve::SINK] {
        let _ = write!(
            text,
            "  upstream tcp{port} {{ server {v1}:{port} weight={w1}; server {v2}:{port} weight={w2}; }}
  server {{ listen {port} reuseport backlog=4096; tcp_nodelay on; proxy_pass tcp{port}; }}
"
        );
    }
    text.push_str("}\n");
}

/// The servers with their kept connections, and the rules that choose among them.
fn pools(text: &mut String, stage: &Stage, size: Size) {
    let [v1, v2] = [0, 1].map(|index| servers(stage)[index]);
    let [w1, w2] = WEIGHTS;
    let port = serve::HTTP;
    let buckets = (size.rules * 2).next_power_of_two().max(2048);
    let kept = "keepalive 512; keepalive_requests 1000000000; keepalive_timeout 3600s;";
    let _ = write!(
        text,
        "  map_hash_max_size {buckets};
  map_hash_bucket_size 128;
  upstream all {{ server {v1}:{port} weight={w1}; server {v2}:{port} weight={w2}; {kept} }}
  upstream v2 {{ server {v2}:{port}; {kept} }}
  map $http_x_user $pool {{
    default all;
"
    );
    for user in users(size) {
        let _ = writeln!(text, "    {user} v2;");
    }
    text.push_str("  }\n");
}
