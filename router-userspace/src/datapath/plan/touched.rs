//! A plan for the services that a change of endpoints touches, in time that does not grow with the others.
//!
//! It relies on the maps being in step but for what is touched. It is what [`plan`](super::plan()) would plan then; when
//! something is missing there is no such plan, and everything is to be looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use router_rules::source::ClassId;

use super::{Classes, MapOp, Plan, Planner};
use crate::datapath::{
    desired::{Desired, Service, Touched},
    state::State,
};

/// Plans what is touched; `sources` are the classes of all cgroups. None: it does not fit, or something that should be
/// installed is not.
pub fn plan_touched(state: &State, touched: &Touched, sources: &BTreeMap<u64, ClassId>) -> Option<Plan> {
    let named = |service: &Service| Some((state.name_of(service)?, Arc::new(service.clone())));
    let services = touched.services.iter().map(named).collect::<Option<_>>()?;
    let sources = sources.iter().filter(|&(_, &class)| class != ClassId::UNKNOWN);
    let desired = Desired {
        generation: touched.generation,
        services,
        sources: sources.map(|(&cgroup, &class)| (cgroup, class)).collect(),
        ..Desired::default()
    };
    let mut planner = Planner {
        state,
        desired: &desired,
        arenas: state.arenas.clone(),
        limits: BTreeMap::new(),
        new_endpoints: BTreeMap::new(),
        service_indexes: BTreeMap::new(),
        classes: Classes::assign(state, &desired).ok()?,
        plan: Plan::default(),
    };
    planner.touched_ids(touched)?;
    let switched = planner.services().ok()?;
    if switched.iter().any(|op| matches!(op, MapOp::WriteClasses(_))) && !planner.classes.movers.is_empty() {
        return None;
    }
    planner.plan.ops.extend(switched);
    let gone = touched.gone.iter();
    let releases = gone.map(|&key| MapOp::ReleaseEndpoint { key });
    planner.plan.ops.extend(releases);
    Some(planner.plan)
}

impl Planner<'_> {
    /// As [`Planner::ids`], of what is touched.
    fn touched_ids(&mut self, touched: &Touched) -> Option<()> {
        let state = self.state;
        let mut vacant = state.endpoint_ids.vacant();
        for &key in &touched.come {
            let id = state.endpoint_ids.get(&key).or_else(|| vacant.next())?;
            self.new_endpoints.insert(key, id);
            self.plan.ops.push(MapOp::WriteEndpointState { id, key });
        }
        let services = self.desired.services.values();
        let limits: BTreeSet<u64> = services
            .flat_map(|s| &s.subsets)
            .filter_map(|s| s.limit)
            .collect();
        for name in limits {
            self.limits.insert(name, state.limit_ids.in_use(&name)?);
        }
        for &name in self.desired.services.keys() {
            self.service_indexes
                .insert(name, state.service_ids.in_use(&name)?);
        }
        Some(())
    }
}
