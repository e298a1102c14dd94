//! `router uninstall`: takes everything that an agent left in the kernel out again.

use super::{
    agent::{Pins, ProxyAddress},
    text::{hinted, print},
};
use crate::{app::loopback, datapath, sys};

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Stop the agent first: SIGTERM leaves connections routed by the kernel, so that an agent can be
restarted or upgraded without losing one; this command ends that."
)]
pub(super) struct Args {
    #[command(flatten)]
    pins: Pins,
    #[command(flatten)]
    proxy: ProxyAddress,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    if !sys::is_root() {
        return Err(hinted(
            anyhow::anyhow!("not allowed to change the kernel's programs"),
            "run it as root",
        ));
    }
    let removed = datapath::uninstall(&args.pins.pin_dir)?;
    let addresses = args.proxy.addresses();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let gone = runtime.block_on(loopback::remove(&addresses))?;
    print(&format!(
        "removed {removed} pins below {} and {gone} proxy addresses\n",
        args.pins.pin_dir.display()
    ))?;
    Ok(())
}
