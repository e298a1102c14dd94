//! curl and nginx, by both versions of HTTP.

use anyhow::{Result, ensure};
use tests::harness::Test;

use crate::nginx::{FRONTEND, Site, large};

pub(crate) const TESTS: &[Test] = &[
    ("curl_reads_what_nginx_serves", curl_reads),
    ("a_large_file_arrives_whole", large_file),
    ("ranges_conditions_and_redirects_pass_through", semantics_pass),
];

fn curl_reads() -> Result<()> {
    let site = Site::new()?;
    let agent = site.agent()?;
    for version in ["--http1.1", "--http2-prior-knowledge", "--http1.0"] {
        let output = site.curl(&[version, &format!("http://{FRONTEND}/")])?;
        ensure!(
            output.stdout == b"hello\n",
            "{version}: {output:?}\n{}",
            agent.log_tail()
        );
    }
    let url = format!("http://{FRONTEND}/echo");
    let output = site.curl(&["-X", "POST", "-d", "x=1", "-H", "Host: site.default", &url])?;
    let expected = format!("POST site.default {}\n", site.client.v4(0).ip());
    ensure!(output.stdout == expected.as_bytes(), "{output:?}");
    ensure!(
        agent.service("site", FRONTEND.port())?.proxied >= 4,
        "not through the proxy"
    );
    Ok(())
}

fn large_file() -> Result<()> {
    let site = Site::new()?;
    let _agent = site.agent()?;
    let expected = large();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let output = site.curl(&[version, &format!("http://{FRONTEND}/large")])?;
        ensure!(
            output.stdout == expected,
            "{version}: {} bytes differ",
            output.stdout.len()
        );
    }
    Ok(())
}

fn semantics_pass() -> Result<()> {
    let site = Site::new()?;
    let _agent = site.agent()?;
    let large_url = format!("http://{FRONTEND}/large");
    let part = site.curl(&["-r", "1000-1999", "-w", "%{http_code}", &large_url])?;
    let mut expected = large()[1000..2000].to_vec();
    expected.extend(b"206");
    ensure!(part.stdout == expected, "{} bytes", part.stdout.len());
    let head = site.curl(&["-I", "-w", "%{http_code}", &large_url])?;
    let text = String::from_utf8_lossy(&head.stdout).to_lowercase();
    ensure!(
        text.contains(&format!("content-length: {}", crate::nginx::LARGE)),
        "{text}"
    );
    let code = |arguments: &[&str]| {
        let output = site.curl(
            &[
                &["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"],
                arguments,
            ]
            .concat(),
        )?;
        anyhow::Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let fresh = code(&["-z", "Fri, 01 Jan 2100 00:00:00 GMT", &large_url])?;
    ensure!(fresh == "304", "{fresh}");
    let moved = code(&[&format!("http://{FRONTEND}/moved")])?;
    ensure!(
        moved.starts_with("302 ") && moved.ends_with("/elsewhere"),
        "{moved}"
    );
    let missing = code(&[&format!("http://{FRONTEND}/missing")])?;
    ensure!(missing == "404", "{missing}");
    Ok(())
}
