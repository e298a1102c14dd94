//! Brings the maps in step with the desired state: the only caller of the store's writing half.
//!
//! Each operation is recorded in the mirror as soon as it is done, so the mirror is right after a failure too, and
//! the next reconciliation goes on from there. What departs rests until its grace period is over, which nobody waits
//! for here unless a change finds no room otherwise.

use router_common::route::{RouteWord, TABLE_HEADER};

use super::{
    UpstreamIds,
    desired::Desired,
    plan::{CapacityError, EgressOp, MapOp, Plan, Switch, plan},
    state::{Area, Counted, Departed, PlacedSubset, PlacedTable, State},
    store::{MapStore, StoreError},
};

/// A reconciliation ended early. What it had done by then is done, and the next one goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The desired state does not fit; nothing was changed.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// A map could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a reconciliation did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Operations that were carried out.
    pub ops: usize,
    /// Services that were created or switched to another routing.
    pub services: usize,
    /// True when something waits for a grace period: reconcile again soon. What waits for connections to end is not
    /// counted, which may take days; every later reconciliation looks after it.
    pub leftovers: bool,
    /// True when only what a change of endpoints touches was looked at.
    pub followed: bool,
}

/// Makes the maps hold what is desired.
///
/// # Errors
///
/// See [`ReconcileError`].
pub fn reconcile(
    state: &mut State,
    desired: &Desired,
    store: &mut impl MapStore,
) -> Result<Report, ReconcileError> {
    reconcile_around(state, desired, store, |_| {})
}

/// As [`reconcile`], and gives `counted` the ids in between: when every limit and endpoint that is desired has its id
/// in the maps, and before any connection is routed otherwise than before. What the proxy follows changes there: it then never
/// opens a connection that nobody counts, nor is it sent one that it does not know. It is not called on an error
/// before.
///
/// # Errors
///
/// See [`ReconcileError`].
pub fn reconcile_around(
    state: &mut State,
    desired: &Desired,
    store: &mut impl MapStore,
    counted: impl FnOnce(UpstreamIds),
) -> Result<Report, ReconcileError> {
    let plan = plan_with_room(state, desired, store)?;
    let ids = |state: &State| counted(state.upstream_ids_towards(desired));
    carry_out_then(state, &plan, store, ids, |state| state.reconciled(desired))?;
    Ok(Report {
        ops: plan.ops.len(),
        services: plan.services(),
        leftovers: state.is_resting(),
        followed: false,
    })
}

/// Carries out a plan, `counted` in between as [`reconcile_around`] does, and asks for a grace period.
pub(super) fn carry_out(
    state: &mut State,
    plan: &Plan,
    store: &mut impl MapStore,
    counted: impl FnOnce(&State),
) -> Result<(), ReconcileError> {
    carry_out_then(state, plan, store, counted, |_| {})
}

fn carry_out_then(
    state: &mut State,
    plan: &Plan,
    store: &mut impl MapStore,
    counted: impl FnOnce(&State),
    done: impl FnOnce(&mut State),
) -> Result<(), ReconcileError> {
    let applied = apply(state, plan, store, counted);
    state.abandon();
    if applied.is_ok() {
        for Switch { name, installed } in &plan.described {
            state.published(*name, installed.clone());
        }
        done(state);
    }
    let rested = rest(state, store);
    applied?;
    rested?;
    collect(state, store)?;
    Ok(())
}

/// Plans; when there is no room, waits for what is resting and plans again.
fn plan_with_room(
    state: &mut State,
    desired: &Desired,
    store: &mut impl MapStore,
) -> Result<Plan, ReconcileError> {
    let full = match plan(state, desired) {
        Ok(plan) => return Ok(plan),
        Err(full) => full,
    };
    rest(state, store)?;
    let Some(&(grace, _)) = state.resting.back() else {
        return Err(full.into());
    };
    store.await_grace(grace)?;
    collect(state, store)?;
    Ok(plan(state, desired)?)
}

/// Asks for a grace period for what departed.
fn rest(state: &mut State, store: &mut impl MapStore) -> Result<(), StoreError> {
    if state.wants_grace() {
        let grace = store.request_grace()?;
        state.rest(grace);
    }
    Ok(())
}

/// Carries out a plan.
fn apply(
    state: &mut State,
    plan: &Plan,
    store: &mut impl MapStore,
    counted: impl FnOnce(&State),
) -> Result<(), StoreError> {
    let gives_id = |op: &MapOp| matches!(op, MapOp::WriteLimit { .. } | MapOp::WriteEndpointState { .. });
    let (ids, routes) = plan.ops.split_at(plan.ops.partition_point(gives_id));
    for op in ids {
        apply_one(state, op, store)?;
    }
    counted(state);
    routes.iter().try_for_each(|op| apply_one(state, op, store))
}

/// Looks whether somebody else wrote to the maps, and makes the mirror say what they hold, so that the next
/// [`reconcile`] puts it right. Returns how many entries differed.
///
/// # Errors
///
/// A map could not be walked; the mirror is as it was.
pub fn refresh(state: &mut State, store: &mut impl MapStore) -> Result<usize, StoreError> {
    let (frontends, sources) = (store.frontends()?, store.sources()?);
    let (networks, confinement) = (store.networks()?, store.confinement()?);
    let addresses = std::collections::BTreeSet::from_iter(store.addresses()?);
    let mut differing = replace(&mut state.frontends, frontends);
    differing += replace(&mut state.networks, networks) + replace(&mut state.confinement, confinement);
    differing += state.addresses.symmetric_difference(&addresses).count();
    state.addresses = addresses;
    differing += replace(&mut state.sources, sources);
    for installed in state.services.values_mut() {
        let word = store.service(installed.index).word();
        if word != installed.placement.word {
            installed.placement.word = word;
            // Without a description the routing is compared with the maps again, not taken for known.
            installed.described = None;
            differing += 1;
        }
    }
    Ok(differing)
}

fn replace<K: Ord, V: PartialEq>(mirror: &mut std::collections::BTreeMap<K, V>, found: Vec<(K, V)>) -> usize {
    let found = std::collections::BTreeMap::from_iter(found);
    let changed = found
        .iter()
        .filter(|(key, value)| mirror.get(key) != Some(value))
        .count();
    let missing = mirror.keys().filter(|key| !found.contains_key(key)).count();
    *mirror = found;
    changed + missing
}

/// Carries out one operation and records it.
pub(super) fn apply_one(state: &mut State, op: &MapOp, store: &mut impl MapStore) -> Result<(), StoreError> {
    match op {
        MapOp::WriteLimit { id, name, max } => {
            store.write_limit(*id, *name, *max)?;
            state.limit_ids.hold(*name, *id);
            state.limit_max.insert(*name, *max);
        }
        MapOp::WriteEndpointState { id, key } => {
            store.write_endpoint_state(*id, key.addr, key.port)?;
            state.endpoint_ids.hold(*key, *id);
        }
        MapOp::WriteSubset { subset, cursor_from } => write_subset(state, subset, *cursor_from, store)?,
        MapOp::WriteTable { table, cursor_from } => write_table(state, table, *cursor_from, store)?,
        MapOp::WriteClasses(classes) => {
            if classes.words.iter().any(|word| word.sends_to_proxy()) {
                store.begin_handover()?;
            }
            let words: Vec<u64> = classes.words.iter().map(|word| word.0).collect();
            store.write_slots(classes.block.base, &words)?;
            state.wrote(Area::Slots, classes.block);
        }
        MapOp::CreateService(switch) => {
            let Switch { name, installed } = &**switch;
            hand_over(installed.placement.word, store)?;
            store.create_service(installed.index, *name, installed.placement.word)?;
            state.service_ids.hold(*name, installed.index);
            state.published(*name, installed.clone());
        }
        MapOp::Publish(switch) => {
            let Switch { name, installed } = &**switch;
            hand_over(installed.placement.word, store)?;
            store.publish(installed.index, installed.placement.word)?;
            state.published(*name, installed.clone());
        }
        MapOp::InsertSource { cgroup, class } => {
            store.insert_source(*cgroup, *class)?;
            state.classified(*cgroup, *class);
        }
        MapOp::RemoveSource { cgroup } => {
            store.remove_source(*cgroup)?;
            state.classified(*cgroup, 0);
        }
        MapOp::InsertFrontend { key, service } => {
            store.insert_frontend(*key, *service)?;
            state.frontends.insert(*key, *service);
        }
        MapOp::RemoveFrontend { key } => {
            store.remove_frontend(*key)?;
            state.frontends.remove(key);
        }
        MapOp::Egress(op) => apply_egress(state, *op, store)?,
        MapOp::ForgetService { name, index } => {
            store.forget_service(*index)?;
            state.forgot(*name);
        }
        MapOp::ReleaseLimit { name } => {
            let leaving = state.limit_ids.leave(name);
            let counted = leaving.map(|leaving| Counted::Limit(*name, leaving));
            state.departed.counted.extend(counted);
        }
        MapOp::ReleaseEndpoint { key } => {
            let leaving = state.endpoint_ids.leave(key);
            let counted = leaving.map(|leaving| Counted::Endpoint(*key, leaving));
            state.departed.counted.extend(counted);
        }
    }
    Ok(())
}

/// Connections that a word sends to the proxy are handed over to it from the first one on.
fn hand_over(word: RouteWord, store: &mut impl MapStore) -> Result<(), StoreError> {
    if word.sends_to_proxy() {
        store.begin_handover()?;
    }
    Ok(())
}

fn apply_egress(state: &mut State, op: EgressOp, store: &mut impl MapStore) -> Result<(), StoreError> {
    match op {
        EgressOp::InsertNetwork(key, entry) => {
            store.insert_network(key, entry)?;
            state.networks.insert(key, entry);
        }
        EgressOp::RemoveNetwork(key) => {
            store.remove_network(key)?;
            state.networks.remove(&key);
        }
        EgressOp::InsertAddress(address) => {
            store.insert_address(address)?;
            state.addresses.insert(address);
        }
        EgressOp::RemoveAddress(address) => {
            store.remove_address(address)?;
            state.addresses.remove(&address);
        }
        EgressOp::Confine(cgroup, value) => {
            store.insert_confinement(cgroup, value)?;
            state.confinement.insert(cgroup, value);
        }
        EgressOp::Unconfine(cgroup) => {
            store.remove_confinement(cgroup)?;
            state.confinement.remove(&cgroup);
        }
    }
    Ok(())
}

fn write_subset(
    state: &mut State,
    subset: &PlacedSubset,
    cursor_from: Option<u32>,
    store: &mut impl MapStore,
) -> Result<(), StoreError> {
    if subset.block.len > 0 {
        store.write_endpoints(subset.block.base, &subset.entries())?;
    }
    state.wrote(Area::Endpoints, subset.block);
    let cursor = cursor_from.map_or(0, |index| store.subset(index).cursor);
    store.write_subset(subset.index, &subset.entry(cursor))?;
    let own = super::arena::Block {
        base: subset.index,
        len: 1,
    };
    state.wrote(Area::Subsets, own);
    Ok(())
}

fn write_table(
    state: &mut State,
    table: &PlacedTable,
    cursor_from: Option<u32>,
    store: &mut impl MapStore,
) -> Result<(), StoreError> {
    let mut cells = vec![0; TABLE_HEADER as usize];
    cells[0] = cursor_from.map_or(0, |cell| store.slot(cell));
    cells.extend(table.slots.iter().map(|&subset| u64::from(subset)));
    store.write_slots(table.block.base, &cells)?;
    state.wrote(Area::Slots, table.block);
    Ok(())
}

/// Frees what rested until its grace period was over, and the ids that count no connection any more.
///
/// [`reconcile`] does this too; call it when no change is due and [`Report::leftovers`] was true.
///
/// # Errors
///
/// A map could not be written; nothing is lost, and the next call goes on.
pub fn collect(state: &mut State, store: &mut impl MapStore) -> Result<(), StoreError> {
    rest(state, store)?;
    let completed = store.completed_grace();
    while let Some((grace, mut departed)) = state.resting.pop_front_if(|(grace, _)| *grace <= completed) {
        if let Err(error) = free_services(state, &mut departed, store) {
            state.resting.push_front((grace, departed));
            return Err(error);
        }
        for (area, block) in departed.blocks {
            state.arenas.of_mut(area).free(block);
        }
        state.idle.extend(departed.counted);
    }
    free_idle(state, store)
}

fn free_services(
    state: &mut State,
    departed: &mut Departed,
    store: &mut impl MapStore,
) -> Result<(), StoreError> {
    while let Some(&(name, leaving)) = departed.services.last() {
        if state.service_ids.is_leaving(&name, leaving) {
            store.publish(leaving.id, RouteWord::UNTOUCHED)?;
            state.service_ids.forget(&name);
        }
        departed.services.pop();
    }
    Ok(())
}

fn free_idle(state: &mut State, store: &mut impl MapStore) -> Result<(), StoreError> {
    let mut waiting = std::mem::take(&mut state.idle);
    while let Some(counted) = waiting.pop() {
        match free_counted(state, counted, store) {
            Ok(true) => {}
            Ok(false) => state.idle.push(counted),
            Err(error) => {
                state.idle.push(counted);
                state.idle.append(&mut waiting);
                return Err(error);
            }
        }
    }
    Ok(())
}

/// False when connections still count in the id.
fn free_counted(state: &mut State, counted: Counted, store: &mut impl MapStore) -> Result<bool, StoreError> {
    match counted {
        Counted::Limit(name, leaving) if state.limit_ids.is_leaving(&name, leaving) => {
            if store.limit(leaving.id).active != 0 {
                return Ok(false);
            }
            store.clear_limit(leaving.id)?;
            state.limit_ids.forget(&name);
            state.limit_max.remove(&name);
        }
        Counted::Endpoint(key, leaving) if state.endpoint_ids.is_leaving(&key, leaving) => {
            if store.endpoint_state(leaving.id).active != 0 {
                return Ok(false);
            }
            store.clear_endpoint_state(leaving.id)?;
            state.endpoint_ids.forget(&key);
        }
        // The name came back in the meantime.
        Counted::Limit(..) | Counted::Endpoint(..) => {}
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
