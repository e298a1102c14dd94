//! Debian packages, by purpose. Known by the programs they bring, so that a machine that has these from elsewhere is
//! left alone.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{terminal, workspace};

/// What packages are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// A second opinion on what is left in the kernel.
    Kernel,
    /// Clients and servers that are not ours.
    Peers,
    /// Other kernels in virtual machines.
    Vm,
    /// What a user would run instead of the router.
    Nginx,
    /// The same.
    Haproxy,
}

/// A program and the packages that bring it: Debian's, and Ubuntu's where that is another.
type Brings = (&'static str, &'static [&'static str]);

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel packages",
            Self::Peers => "peer packages",
            Self::Vm => "vm packages",
            Self::Nginx | Self::Haproxy => "bench packages",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Kernel => "tests that ask the kernel what is left behind",
            Self::Peers => "tests with clients and servers that are not ours",
            Self::Vm => "tests on other kernels in virtual machines",
            Self::Nginx | Self::Haproxy => "benchmarks with peers",
        }
    }

    fn programs(self) -> &'static [Brings] {
        match self {
            Self::Kernel => &[("bpftool", &["bpftool", "linux-tools-generic"])],
            Self::Peers => &[
                ("curl", &["curl"]),
                ("nginx", &["nginx-light"]),
                ("h2load", &["nghttp2-client"]),
            ],
            Self::Vm => &[
                ("qemu-system-x86_64", &["qemu-system-x86"]),
                ("zstd", &["zstd"]),
                ("xz", &["xz-utils"]),
                ("dpkg-deb", &["dpkg"]),
            ],
            Self::Nginx => &[
                ("nginx", &["nginx-light"]),
                (
                    "/usr/lib/nginx/modules/ngx_stream_module.so",
                    &["libnginx-mod-stream"],
                ),
            ],
            Self::Haproxy => &[("haproxy", &["haproxy"])],
        }
    }
}

/// Installs the packages whose programs are not there.
pub(crate) fn provide(purpose: Purpose) -> Result<()> {
    let absent = absent(purpose);
    if absent.is_empty() {
        terminal::done(purpose.name(), &"present");
        return Ok(());
    }
    let list = choose(&absent, known).join(" ");
    let want = format!("{} need {list}", purpose.reason());
    if workspace::find("apt-get").is_none() {
        bail!("{want}: this machine has no apt-get; install what brings these programs by its own means");
    }
    // SAFETY: takes nothing, touches nothing, cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        bail!(
            "{want}: only root can install them; run `sudo apt-get install {list}`, then this command again"
        );
    }
    terminal::begin(purpose.name(), &format!("apt-get install {list}"));
    install(&absent).with_context(|| format!("{want}; `apt-get install {list}` must succeed once"))?;
    ensure!(
        self::absent(purpose).is_empty(),
        "{want}: installed, but their programs are not in PATH"
    );
    terminal::done(purpose.name(), &"installed");
    Ok(())
}

/// Packages whose program is not there, each with its alternatives.
fn absent(purpose: Purpose) -> Vec<&'static [&'static str]> {
    missing(purpose.programs(), |program| workspace::find(program).is_some())
}

fn missing(programs: &[Brings], present: impl Fn(&str) -> bool) -> Vec<&'static [&'static str]> {
    let missing = programs.iter().filter(|(program, _)| !present(program));
    missing.map(|(_, packages)| *packages).collect()
}

/// Of each package's alternatives the first that apt knows; the first of all when it knows none.
fn choose<'a>(wanted: &[&[&'a str]], known: impl Fn(&str) -> bool) -> Vec<&'a str> {
    let best = |packages: &&[&'a str]| {
        packages
            .iter()
            .find(|package| known(package))
            .or(packages.first())
            .copied()
    };
    wanted.iter().filter_map(best).collect()
}

/// Installs, after fetching the package lists once if a package is unknown or its listed version has gone.
fn install(wanted: &[&[&str]]) -> Result<()> {
    let packages = choose(wanted, known);
    if packages.iter().all(|package| known(package)) && workspace::run(&mut get("install", &packages)).is_ok()
    {
        return Ok(());
    }
    update()?;
    workspace::run(&mut get("install", &choose(wanted, known)))
}

/// Fetches the package lists.
pub(crate) fn update() -> Result<()> {
    terminal::begin("package lists", &"apt-get update");
    workspace::run(&mut get("update", &[]))
}

fn known(package: &str) -> bool {
    Path::new("/var/lib/apt/lists").exists()
        && Command::new("apt-cache")
            .args(["show", package])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

fn get(verb: &str, packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-y", "--no-install-recommends", verb])
        .args(packages);
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_of_absent_programs_are_installed() {
        let programs = Purpose::Peers.programs();
        assert_eq!(missing(programs, |program| program != "nginx"), [["nginx-light"]]);
        assert!(missing(programs, |_| true).is_empty());
    }

    #[test]
    fn the_package_that_apt_knows_is_chosen() {
        let wanted: [&[&str]; 2] = [&["bpftool", "linux-tools-generic"], &["curl"]];
        assert_eq!(choose(&wanted, |_| true), ["bpftool", "curl"]);
        assert_eq!(
            choose(&wanted, |package| package.starts_with("linux")),
            ["linux-tools-generic", "curl"]
        );
    }
}
