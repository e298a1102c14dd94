//! The kernel half as the agent uses it: installed, brought in step by control, watched by admin, used by the proxy.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use router_common::settings::HEARTBEAT_STALE_AFTER;
use router_rules::{Snapshot, source::ClassId};
use tokio::io::unix::AsyncFd;
use tracing::{info, warn};

use super::{Egress, OnProxyDown, Settings};
use crate::{
    control::{NotReconciled, Reconcile, Reconciled},
    datapath::{
        self, Kernel, KernelConfig, KernelEnforcement, KernelLog, KernelMaps, KernelObserver,
        desired::{self, Inputs},
        mirror::Mirror,
        reconcile::ReconcileError,
        state::{Capacity, State},
        store::MapStore as _,
    },
    enforce::{Enforcement, outlier::Outliers},
    observe::Observed,
    registry::NodeCallers,
    sys,
};

/// What control writes.
pub(super) struct KernelHalf {
    mirror: Mirror,
    store: KernelMaps,
    on_proxy_down: desired::OnProxyDown,
    outliers: Arc<Outliers>,
    /// Whose cgroups are confined; none: unknown destinations are left as they are.
    confined: Option<Arc<NodeCallers>>,
    enforcement: Arc<KernelEnforcement>,
    observer: Arc<KernelObserver>,
}

/// What everybody else uses.
pub(super) struct Installed {
    /// Holds the maps' lock.
    kernel: Kernel,
    log: Option<(KernelLog, AsyncFd<OwnedFd>)>,
    pub(super) enforcement: Arc<dyn Enforcement>,
    pub(super) observed: Arc<dyn Observed>,
}

impl KernelHalf {
    /// Loads and attaches the programs, and adopts what an earlier agent left.
    pub(super) fn install(
        settings: &Settings,
        proxy: &[SocketAddr],
        callers: Arc<NodeCallers>,
        outliers: Arc<Outliers>,
    ) -> anyhow::Result<(Self, Installed)> {
        let mut kernel = Kernel::install(&kernel_config(settings, proxy))?;
        let maps = kernel.maps().clone();
        let mut store = KernelMaps::new(kernel.maps_apart()?, kernel.take_handover())?;
        let state = adopt(&kernel, &mut store)?;
        if state.sends_to_proxy() {
            store.begin_handover()?;
        }
        for (program, instructions) in kernel.verified_instructions() {
            info!(program, instructions, "loaded");
        }
        let enforcement = Arc::new(KernelEnforcement::new(maps.clone()));
        let confined = (settings.egress == Egress::RegistryOnly).then(|| callers.clone());
        let observer = Arc::new(KernelObserver::new(maps, settings.pin_dir.clone(), callers));
        let log = kernel.take_log().map(polled).transpose()?;
        let installed = Installed {
            kernel,
            log,
            enforcement: enforcement.clone(),
            observed: observer.clone(),
        };
        let on_proxy_down = match settings.on_proxy_down {
            OnProxyDown::Direct => desired::OnProxyDown::Direct,
            OnProxyDown::Reject => desired::OnProxyDown::Reject,
        };
        Ok((
            Self {
                mirror: Mirror::new(state),
                store,
                on_proxy_down,
                outliers,
                confined,
                enforcement,
                observer,
            },
            installed,
        ))
    }
}

fn polled(log: KernelLog) -> std::io::Result<(KernelLog, AsyncFd<OwnedFd>)> {
    let written = sys::readable(log.as_fd().try_clone_to_owned()?)?;
    Ok((log, written))
}

fn kernel_config(settings: &Settings, proxy: &[SocketAddr]) -> KernelConfig {
    let v6 = proxy.iter().any(SocketAddr::is_ipv6);
    KernelConfig {
        cgroup: settings.cgroup.clone(),
        pin_dir: settings.pin_dir.clone(),
        proxy_v4: Some(settings.proxy_v4),
        proxy_v6: v6.then_some(settings.proxy_v6),
        proxy_port: settings.proxy_port,
        stale_after: std::time::Duration::from_nanos(HEARTBEAT_STALE_AFTER),
        confine: settings.egress == Egress::RegistryOnly,
        debug_log: tracing::enabled!(target: "kernel", tracing::Level::DEBUG),
    }
}

fn adopt(kernel: &Kernel, store: &mut KernelMaps) -> anyhow::Result<State> {
    if !kernel.adopted() {
        return Ok(State::new(Capacity::default()));
    }
    let adopted = State::adopt(store, Capacity::default())?;
    store.rest(false);
    info!(
        services = adopted.state.services().count(),
        "adopted what an earlier agent left"
    );
    if !adopted.unreadable.is_empty() {
        warn!(
            services = adopted.unreadable.len(),
            "routes that cannot be read are written anew"
        );
    }
    Ok(adopted.state)
}

impl Reconcile for KernelHalf {
    fn reconcile(
        &mut self,
        snapshot: &Snapshot,
        sources: &BTreeMap<u64, ClassId>,
        counted: &mut dyn FnMut(),
    ) -> Result<Reconciled, NotReconciled> {
        let confined = self.confined.as_ref().map(|callers| callers.confinement());
        let inputs = Inputs {
            snapshot,
            sources,
            on_proxy_down: self.on_proxy_down,
            ejected: &self.outliers.ejected(),
            confined: confined.as_deref(),
        };
        let report = self.mirror.reconcile(&inputs, &mut self.store, |ids| {
            self.enforcement.set_ids(ids);
            counted();
        });
        let is_followed = report.as_ref().is_ok_and(|report| report.followed);
        self.store.rest(is_followed);
        self.observer.follow(&self.mirror);
        let report = report.map_err(|error| match error {
            ReconcileError::Capacity(error) => NotReconciled::DoesNotFit(error.to_string()),
            ReconcileError::Store(error) => NotReconciled::Failed(error.to_string()),
        })?;
        Ok(Reconciled {
            operations: report.ops,
            leftovers: report.leftovers,
            followed: report.followed,
        })
    }

    fn collect(&mut self) -> Result<bool, NotReconciled> {
        let left = self.mirror.collect(&mut self.store);
        self.store.rest(false);
        left.map_err(|error| NotReconciled::Failed(error.to_string()))
    }

    fn refresh(&mut self) -> Result<usize, NotReconciled> {
        let differing = self.mirror.refresh(&mut self.store);
        self.store.rest(false);
        differing.map_err(|error| NotReconciled::Failed(error.to_string()))
    }

    fn keep_handover(&mut self) -> Result<(), NotReconciled> {
        let kept = self.mirror.keep_handover(&mut self.store);
        kept.map_err(|error| NotReconciled::Failed(error.to_string()))
    }
}

impl Installed {
    /// Renews the proxy's sign of life.
    pub(super) fn beat(&self) -> Arc<dyn Fn() + Send + Sync> {
        let maps = self.kernel.maps().clone();
        Arc::new(move || datapath::heartbeat(&maps))
    }

    /// The kernel stops sending connections to the proxy at once.
    pub(super) fn proxy_goes_down(&self) {
        datapath::proxy_goes_down(self.kernel.maps());
    }

    /// Forwards the programs' log for ever.
    pub(super) async fn forward_log(&mut self) -> Infallible {
        if let Some((log, written)) = &mut self.log {
            while let Ok(mut ready) = written.readable().await {
                // Cleared first: what is written during the flush makes it readable again.
                ready.clear_ready();
                log.flush();
            }
        }
        std::future::pending().await
    }
}
