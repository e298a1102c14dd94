//! What docs/rules.md and docs/operations.md say of refusals and limits, with curl and the agent's own flags.

use anyhow::{Result, ensure};
use tests::{bed::AgentOptions, harness::Test};

use crate::nginx::{FRONTEND, Site};

pub(crate) const TESTS: &[Test] = &[("curl_is_refused_with_a_reason", refused)];

fn refused() -> Result<()> {
    let site = Site::new()?;
    let arguments = ["--max-head-size", "2KiB", "--max-head-fields", "20"];
    let agent = site.agent_with(AgentOptions {
        arguments: arguments.map(str::to_owned).to_vec(),
        ..AgentOptions::default()
    })?;
    let url = format!("http://{FRONTEND}/");
    let long = format!("x: {}", "y".repeat(3000));
    let many: Vec<String> = (0..30)
        .flat_map(|n| ["-H".to_owned(), format!("x-{n}: y")])
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let both = [
        "-H",
        "Transfer-Encoding: chunked",
        "-H",
        "Content-Length: 3",
        "-d",
        "abc",
    ];
    let cases: [(&[&str], &str, &str); 6] = [
        (&both, "400", "bad-framing"),
        (&["-H", "Expect: miracles"], "417", "expectation-failed"),
        (&["-H", "Connection: host"], "400", "bad-request"),
        (&["-H", &long], "431", "head-too-large"),
        (&many, "431", "head-too-large"),
        (&["--http2-prior-knowledge", "-H", &long], "431", "head-too-large"),
    ];
    for (arguments, status, reason) in cases {
        let asked = ["-i", "-w", "%{http_code}", &url];
        let output = site.curl(&[arguments, &asked].concat())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let field = format!("x-router-reason: {reason}");
        ensure!(
            text.ends_with(status) && text.contains(&field),
            "{arguments:?}: {text}\n{}",
            agent.log_tail()
        );
    }
    // Others are served as before.
    let output = site.curl(&[&url])?;
    ensure!(output.stdout == b"hello\n", "{output:?}");
    Ok(())
}
