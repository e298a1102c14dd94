//! Arguments: they parse as documented, and nonsense is a usage error.

use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_definitions_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_documented_examples_parse() {
    for line in [
        "router agent --config /etc/router",
        "router agent --config . --on-proxy-down reject --log-format json --access-log off --proxy-threads 2",
        "router agent --config . --cgroup /c --pin-dir /p --admin 127.0.0.1:1 --proxy-address 169.254.1.1",
        "router agent --config . --proxy-address6 fd00::1 --proxy-port 15001",
        "router explain --from default/productpage-v1 -H Foo:bar http://reviews:9080/",
        "router explain --config examples --from a -X POST -o json tcp://mongodb:27017",
        "router status -o yaml",
        "router dump",
        "router dump snapshot -o json --admin 127.0.0.1:1",
        "router uninstall --pin-dir /sys/fs/bpf/x",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
    }
}

#[test]
fn nonsense_is_a_usage_error() {
    for line in [
        "router",
        "router fly",
        "router agent",
        "router agent --config . --proxy-port 0",
        "router agent --config . --proxy-address fd00::1",
        "router explain",
        "router status -o xml",
    ] {
        assert!(parse(line).is_err(), "{line}");
        assert_eq!(
            run(line.split(' ').map(Into::into)),
            ExitCode::from(USAGE),
            "{line}"
        );
    }
}

#[test]
fn help_is_no_error() {
    assert_eq!(run(["router".into(), "--help".into()]), ExitCode::SUCCESS);
    assert_eq!(
        run(["router".into(), "agent".into(), "--help".into()]),
        ExitCode::SUCCESS
    );
    assert_eq!(run(["router".into(), "--version".into()]), ExitCode::SUCCESS);
}

#[test]
fn an_agent_that_does_not_answer_is_a_failure() {
    // Port 0 cannot be connected to.
    let status = ["router", "status", "--admin", "127.0.0.1:0"];
    assert_eq!(run(status.map(Into::into)), ExitCode::FAILURE);
}
