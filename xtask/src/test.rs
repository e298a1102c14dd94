//! Runs every test that this machine can run, tier by tier, and sums up.
//!
//! It knows where a tier can run and how to start it; what the tests check is theirs.

mod bytecode;
pub(crate) mod fuzz;
mod host;
mod summary;
mod targets;

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use self::{summary::Summary, targets::Linkage};
use crate::{
    ebpf,
    harness::{self, Counts},
    setup::{self, Need, Purpose},
    terminal,
    vm::{self, Kernel, KernelName, Payload},
    workspace,
};

/// What random tests begin with unless told otherwise: a change is judged by what it changed, not by the draw. Other
/// draws are for `cargo xtask fuzz`, `--seed`, and a plain `cargo test`.
const SEED: u64 = 1;

/// Longest run of one tier on the host.
const HOST_LIMIT: Duration = Duration::from_secs(25 * 60);

/// What a group of tests needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Tier {
    /// Functions, properties, the precedence order: nothing but the code.
    Unit,
    /// Documents and what becomes of them, recorded in files.
    Golden,
    /// The proxy over loopback, in the test's process.
    Wire,
    /// Inputs that nobody would write, for ten seconds each target.
    Fuzz,
    /// The instructions of the kernel half.
    Bytecode,
    /// Pods as network namespaces, a real kernel: root and BPF, or a virtual machine instead.
    Netns,
    /// The same with clients and servers that are not ours: root and BPF.
    Peers,
    /// The netns tests on other kernels.
    Vm,
}

impl Tier {
    /// All that run when nothing else is said.
    const USUAL: [Self; 7] = [
        Self::Unit,
        Self::Golden,
        Self::Wire,
        Self::Fuzz,
        Self::Bytecode,
        Self::Netns,
        Self::Peers,
    ];

    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What to test.
#[derive(Args)]
pub(crate) struct Options {
    /// Run only tests whose name contains this.
    filter: Option<String>,
    /// Run only these tiers.
    #[arg(long, value_enum, value_delimiter = ',')]
    tier: Vec<Tier>,
    /// Run the netns tests on these kernels in virtual machines: a version or a Debian package [default: 6.1 6.12].
    #[arg(long, num_args = 0.., value_name = "KERNEL")]
    vm: Option<Vec<KernelName>>,
    /// Seconds that a virtual machine may take.
    #[arg(long, default_value_t = 1500, value_name = "SECONDS")]
    vm_limit: u64,
    /// What random tests begin with.
    #[arg(long, default_value_t = SEED, value_name = "NUMBER")]
    seed: u64,
}

impl Options {
    fn tiers(&self) -> Vec<Tier> {
        let mut tiers = self.tier.clone();
        if self.vm.is_some() && !tiers.contains(&Tier::Vm) {
            tiers.push(Tier::Vm);
        }
        if tiers.is_empty() {
            Tier::USUAL.to_vec()
        } else {
            tiers
        }
    }

    fn kernels(&self) -> Result<Vec<KernelName>> {
        match &self.vm {
            Some(kernels) if !kernels.is_empty() => Ok(kernels.clone()),
            _ => vm::DEFAULT_KERNELS
                .iter()
                .map(|name| name.parse().map_err(anyhow::Error::msg))
                .collect(),
        }
    }

    /// Hands the seed to our tests and to those of proptest.
    fn seed(&self, tests: &mut Command) {
        let seed = self.seed.to_string();
        tests
            .env("ROUTER_TEST_SEED", &seed)
            .env("PROPTEST_RNG_SEED", &seed);
    }

    /// Arguments of a test binary.
    fn arguments(&self) -> Vec<String> {
        self.filter.iter().cloned().collect()
    }
}

/// Runs the tiers in their order. The exit code says whether all is well.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    ebpf::build()?;
    let targets = targets::integration_tests()?;
    let mut summary = Summary::new(options.filter.as_deref());
    for tier in options.tiers() {
        let name = tier.name();
        terminal::heading(&format!("{name} tests"));
        match tier {
            Tier::Unit => summary.time(&name, || unit(&targets, options)),
            Tier::Golden | Tier::Wire => summary.time(&name, || cargo_test(&["--test", &name], options)),
            Tier::Fuzz => summary.time(&name, || {
                fuzz::run(options.filter.as_deref(), fuzz::SECONDS, Some(options.seed))
            }),
            Tier::Bytecode => summary.time(&name, || {
                bytecode::run(&ebpf::object(), options.filter.as_deref().unwrap_or(""))
            }),
            Tier::Netns => netns(&mut summary, options)?,
            Tier::Peers => peers(&mut summary, options),
            Tier::Vm => machines(&mut summary, options)?,
        }
    }
    Ok(summary.print())
}

/// Unit and documentation tests of every crate, and the integration tests that are no tier of their own.
fn unit(targets: &[String], options: &Options) -> Result<Counts> {
    let mut selected = vec!["--lib", "--bins"];
    for target in targets
        .iter()
        .filter(|target| Tier::from_str(target, false).is_err())
    {
        selected.extend(["--test", target]);
    }
    let mut counts = cargo_test(&selected, options)?;
    counts += cargo_test(&["--doc"], options)?;
    Ok(counts)
}

/// `cargo test` of some targets. All crates are named each time, so that every call builds with the same features.
fn cargo_test(targets: &[&str], options: &Options) -> Result<Counts> {
    let mut cargo = workspace::cargo();
    cargo
        .args([
            "test",
            "--workspace",
            "--exclude",
            "router-ebpf",
            "--no-fail-fast",
        ])
        .args(targets);
    cargo.arg("--").args(options.arguments());
    options.seed(&mut cargo);
    harness::run(&mut cargo, HOST_LIMIT)
}

/// On the host when it can, else in a virtual machine; says which.
fn netns(summary: &mut Summary, options: &Options) -> Result<()> {
    let Some(obstacle) = host::obstacle() else {
        terminal::done("netns", &"on this machine: root, cgroup2 and BPF are there");
        summary.time("netns", || on_host("netns", options));
        return Ok(());
    };
    let kernels = options.kernels()?;
    let newest = kernels.last().context("no kernel")?;
    terminal::skipped(
        "netns",
        &format!("not on this machine ({obstacle}): in a virtual machine instead"),
    );
    match vm::prepare(newest) {
        Ok(kernel) => boot(summary, &[kernel], options),
        Err(error) => summary.skip(
            "netns",
            "root",
            &format!("{obstacle}; and no virtual machine: {error:#}"),
        ),
    }
    Ok(())
}

fn peers(summary: &mut Summary, options: &Options) {
    if let Some(obstacle) = host::obstacle() {
        return summary.skip("peers", "root", &obstacle);
    }
    match setup::ensure(&[Need::Packages(Purpose::Kernel), Need::Packages(Purpose::Peers)]) {
        Ok(()) => summary.time("peers", || on_host("peers", options)),
        Err(error) => summary.skip("peers", "peers", &format!("{error:#}")),
    }
}

/// A test target of the tests crate, run on its own, so that what it starts can be ended with it.
fn on_host(target: &str, options: &Options) -> Result<Counts> {
    let binary = targets::build(target, Linkage::Dynamic)?;
    harness::run(Command::new(binary).args(options.arguments()), HOST_LIMIT)
}

/// The netns tests on every kernel that was asked for; one that cannot be had does not keep the others from running.
fn machines(summary: &mut Summary, options: &Options) -> Result<()> {
    let mut kernels = Vec::new();
    for name in options.kernels()? {
        match vm::prepare(&name) {
            Ok(kernel) => kernels.push(kernel),
            Err(error) => summary.time(&format!("vm {name}"), || Err(error)),
        }
    }
    boot(summary, &kernels, options);
    Ok(())
}

fn boot(summary: &mut Summary, kernels: &[Kernel], options: &Options) {
    if kernels.is_empty() {
        return;
    }
    let binary = match targets::build("netns", Linkage::Static) {
        Ok(binary) => binary,
        Err(error) => return summary.time("vm", || Err(error)),
    };
    let arguments = options.arguments();
    let limit = Duration::from_secs(options.vm_limit);
    for kernel in kernels {
        let payload = Payload {
            binary: &binary,
            arguments: &arguments,
            limit,
        };
        summary.time(&format!("vm {}", kernel.name), || vm::run(kernel, &payload));
    }
}
