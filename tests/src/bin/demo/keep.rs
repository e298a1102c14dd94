//! What to try while the demo stays up.

use std::{fmt::Write, fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::Result;
use tests::bed::{Agent, agent::ADMIN};

use crate::bookinfo::Bookinfo;

/// Writes a script that runs commands in pods, and prints commands that use it.
pub(crate) fn print(bookinfo: &Bookinfo, agent: &Agent<'_>, router: &Path) -> Result<()> {
    let config = agent.config();
    let script = config.with_file_name("in");
    fs::write(&script, text(bookinfo)?)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let run = script.display();
    let reviews = bookinfo.service("reviews")?;
    let mongodb = bookinfo.service("mongodb")?;
    println!(
        "
Everything stays up. Pods are network namespaces (ip netns list); {run} runs a command in one,
in the pod's cgroup too, by which the kernel knows the caller. Try:

  {run} productpage curl -si http://{reviews}/
  {run} productpage curl -s -H 'Foo: bar' http://{reviews}/
  {run} productpage sh -c 'for i in $(seq 20); do curl -s -m 0.2 telnet://{mongodb} </dev/null; done | sort | uniq -c'
  {run} node {router} status --admin {ADMIN}
  {run} node {router} explain --admin {ADMIN} --from productpage http://{reviews}/
  editor {rules}

Ctrl-C here removes all of it.",
        router = router.display(),
        rules = config.join("rules.yaml").display(),
    );
    Ok(())
}

fn text(bookinfo: &Bookinfo) -> Result<String> {
    let mut text = String::from(
        "#!/bin/sh\n# in POD COMMAND…: runs a command in a pod's network namespace and cgroup.\npod=$1\nshift\n\
         case $pod in\n",
    );
    let node = bookinfo.node.remote();
    let pods = bookinfo
        .pods
        .values()
        .map(|pod| (pod.name(), pod.network(), pod.cgroup()));
    for (name, network, cgroup) in pods.chain([("node", node.network(), node.cgroup())]) {
        writeln!(
            text,
            "{name}) network={} cgroup={} ;;",
            network.display(),
            cgroup.display()
        )?;
    }
    let own = std::env::current_exe()?;
    writeln!(
        text,
        "*) echo \"no pod $pod\" >&2; exit 2 ;;\nesac\nexec {} {} \"$network\" \"$cgroup\" \"$@\"",
        own.display(),
        tests::process::INSIDE,
    )?;
    Ok(text)
}
