//! The programs themselves: how much the verifier had to walk through.

use anyhow::{Context, Result, ensure};
use router_common::abi::PROGRAMS;

use tests::{
    cluster::{Cluster, split},
    harness::{Test, note},
};

pub(crate) const TESTS: &[Test] = &[("verified_instructions_are_bounded", verified_instructions)];

/// Instructions the verifier may walk per program: a fiftieth of what kernels allow, so that no kernel is near its
/// limit.
const BOUND: u32 = 20_000;

fn verified_instructions() -> Result<()> {
    let cluster = Cluster::new()?;
    // Something is proxied, so that the hand-over is attached.
    let agent = cluster.agent(&split("web", &[("v1", 50), ("v2", 50)]))?;
    let status = agent.status()?;
    let hooks = status["hooks"].as_array().context("no hooks")?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    for name in PROGRAMS {
        let hook = hooks.iter().find(|h| h["program"] == name);
        let id = hook
            .and_then(|h| h["programId"].as_u64())
            .with_context(|| format!("{name} is not attached: {status}"))?;
        let program = aya::programs::loaded_programs()
            .filter_map(Result::ok)
            .find(|p| u64::from(p.id()) == id)
            .with_context(|| format!("the kernel has no program {id}"))?;
        let verified = program.verified_instruction_count();
        let size = program.size_translated();
        note(&format!(
            "{} {name}: {verified:?} instructions verified, {size:?} bytes translated",
            kernel.trim()
        ));
        // Kernels before 5.16 do not tell.
        ensure!(
            verified.is_none_or(|count| count <= BOUND),
            "{name}: {verified:?} > {BOUND}"
        );
    }
    Ok(())
}
