//! Properties of plans over random histories of configurations, with maps that check every reference.
//!
//! Single cases by hand are with the reconciliation.

use std::collections::BTreeSet;

use proptest::prelude::*;
use router_common::route::RouteKind;

use super::*;
use crate::datapath::{
    fixture::{ADDRESSES, CAPACITY, CGROUPS, frontend, history},
    reconcile::{apply_one, collect, reconcile},
    state::State,
    store::{FakeMaps, FaultyMaps, MapStore, Meaning},
};

/// What every caller meets at every frontend; cgroup 0 is known to nobody.
fn meanings(maps: &FakeMaps) -> BTreeMap<(FrontendKey, u64), Meaning> {
    let frontends = (0..ADDRESSES).map(frontend);
    let pairs = frontends.flat_map(|f| (0..=CGROUPS).map(move |cgroup| (f, cgroup)));
    pairs
        .map(|(f, cgroup)| ((f, cgroup), maps.meaning(f, cgroup)))
        .collect()
}

fn installed(desired: &Desired) -> (State, FakeMaps) {
    let (mut state, mut maps) = (State::new(CAPACITY), FakeMaps::new(CAPACITY));
    reconcile(&mut state, desired, &mut maps).unwrap();
    (state, maps)
}

fn assert_holds(state: &State, maps: &FakeMaps, desired: &Desired) {
    maps.check_invariants();
    let (_, fresh) = installed(desired);
    assert_eq!(meanings(maps), meanings(&fresh));
    for (name, limit) in &desired.limits {
        let id = state.limit_ids.in_use(name).unwrap();
        assert_eq!((maps.limit(id).name, maps.limit(id).max), (*name, limit.max));
    }
    assert_eq!(
        plan(state, desired),
        Ok(Plan::default()),
        "a second plan is not empty"
    );
}

fn is_slow_path(meaning: &Meaning) -> bool {
    let proxy = [RouteKind::Proxy as u8, RouteKind::ProxyOrRefuse as u8];
    matches!(meaning, Meaning::Table { kind, .. } if proxy.contains(kind))
}

/// What every caller meets at the service that a frontend leads to in other maps.
fn meanings_there(maps: &FakeMaps, other: &FakeMaps) -> BTreeMap<(FrontendKey, u64), Meaning> {
    let mut redirected = maps.clone();
    redirected.frontends.clear();
    for (&frontend, &service) in &other.frontends {
        let name = other.services[service as usize].name;
        let here = maps.services.iter().position(|s| s.name == name);
        redirected
            .frontends
            .extend(here.map(|index| (frontend, index as u32)));
    }
    meanings(&redirected)
}

/// Old and new routing of every caller, and what a caller may meet whose class is being changed.
struct Transition {
    old: BTreeMap<(FrontendKey, u64), Meaning>,
    new: BTreeMap<(FrontendKey, u64), Meaning>,
    /// New routing of the services that the frontends led to before: a frontend moves after its services changed.
    new_of_old: BTreeMap<(FrontendKey, u64), Meaning>,
    /// Cgroups that come, go, or change their class.
    moving: BTreeSet<u64>,
}

impl Transition {
    fn new(before: &FakeMaps, after: &FakeMaps) -> Self {
        let class = |maps: &FakeMaps, cgroup| maps.sources.get(&cgroup).copied();
        Self {
            old: meanings(before),
            new: meanings(after),
            new_of_old: meanings_there(after, before),
            moving: (1..=CGROUPS)
                .filter(|&c| class(before, c) != class(after, c))
                .collect(),
        }
    }

    fn assert_old_or_new(&self, maps: &FakeMaps) {
        for (key, meaning) in meanings(maps) {
            let (frontend, cgroup) = key;
            let unknown = (frontend, 0);
            let tables = [&self.old, &self.new, &self.new_of_old];
            let whole = tables.iter().any(|table| meaning == table[&key]);
            let while_moving = self.moving.contains(&cgroup)
                && (is_slow_path(&meaning) || tables.iter().any(|table| meaning == table[&unknown]));
            assert!(whole || while_moving, "{key:?} meets a mixture: {meaning:?}");
        }
    }
}

/// What adoption can find out about a mirror.
fn visible(state: &State) -> impl PartialEq + std::fmt::Debug {
    let services: Vec<_> = state
        .services
        .iter()
        .map(|(&name, installed)| {
            let mut placement = installed.placement.clone();
            placement.subsets.sort();
            placement.tables.sort();
            (name, installed.index, placement)
        })
        .collect();
    let used = [Area::Slots, Area::Subsets, Area::Endpoints].map(|area| state.usage(area));
    let ids = (
        state.limit_ids.iter().map(|(&k, id)| (k, id)).collect::<Vec<_>>(),
        state
            .endpoint_ids
            .iter()
            .map(|(&k, id)| (k, id))
            .collect::<Vec<_>>(),
        state.limit_max.clone(),
    );
    (
        services,
        state.frontends.clone(),
        state.sources.clone(),
        used,
        ids,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn reconciling_reaches_the_desired_state(worlds in history()) {
        let (mut state, mut maps) = (State::new(CAPACITY), FakeMaps::new(CAPACITY));
        for world in &worlds {
            let desired = world.desired();
            reconcile(&mut state, &desired, &mut maps).unwrap();
            assert_holds(&state, &maps, &desired);
        }
    }

    #[test]
    fn every_prefix_routes_by_the_old_rules_or_the_new(worlds in history()) {
        let (mut state, mut maps) = (State::new(CAPACITY), FakeMaps::new(CAPACITY));
        for world in &worlds {
            let desired = world.desired();
            let ops = plan(&state, &desired).unwrap().ops;
            let (mut probe, mut probe_maps) = (state.clone(), maps.clone());
            reconcile(&mut probe, &desired, &mut probe_maps).unwrap();
            let transition = Transition::new(&maps, &probe_maps);
            let (mut stepped, mut stepped_maps) = (state.clone(), maps.clone());
            for op in &ops {
                apply_one(&mut stepped, op, &mut stepped_maps).unwrap();
                stepped_maps.check_invariants();
                transition.assert_old_or_new(&stepped_maps);
            }
            (state, maps) = (probe, probe_maps);
        }
    }

    #[test]
    fn faults_delay_but_never_mix(worlds in history(), seed in any::<u64>()) {
        let mut state = State::new(CAPACITY);
        let mut faulty = FaultyMaps::new(FakeMaps::new(CAPACITY), seed, 15);
        for world in &worlds {
            let desired = world.desired();
            let before = faulty.maps.clone();
            let (mut probe, mut after) = (state.clone(), before.clone());
            reconcile(&mut probe, &desired, &mut after).unwrap();
            let mut transition = Transition::new(&before, &after);
            // Classes are assigned anew after each failure: whoever moved once may move again.
            transition.moving.extend(1..=CGROUPS);
            let mut attempts = 0;
            while reconcile(&mut state, &desired, &mut faulty).is_err() {
                faulty.maps.check_invariants();
                transition.assert_old_or_new(&faulty.maps);
                attempts += 1;
                prop_assert!(attempts < 2000, "does not converge");
            }
            assert_holds(&state, &faulty.maps, &desired);
        }
    }

    #[test]
    fn nothing_leaks(worlds in history(), held in any::<bool>()) {
        let (mut state, mut maps) = (State::new(CAPACITY), FakeMaps::new(CAPACITY));
        maps.instant_graces = !held;
        for world in &worlds {
            reconcile(&mut state, &world.desired(), &mut maps).unwrap();
        }
        collect(&mut state, &mut maps).unwrap();
        maps.finish_graces();
        collect(&mut state, &mut maps).unwrap();
        prop_assert!(!state.has_leftovers());
        let desired = worlds.last().unwrap().desired();
        let (fresh, _) = installed(&desired);
        for area in [Area::Slots, Area::Subsets, Area::Endpoints] {
            // A class table may be longer than it would be today: it is kept while it says the right thing.
            let slack = if area == Area::Slots { 8 * desired.services.len() as u32 } else { 0 };
            let (used, needed) = (state.usage(area).0, fresh.usage(area).0);
            prop_assert!((needed..=needed + slack).contains(&used), "{area:?}: {used} for {needed}");
        }
        prop_assert_eq!(state.limit_ids.held(), desired.limits.len());
        prop_assert_eq!(state.endpoint_ids.held(), desired.endpoints.len());
        prop_assert_eq!(state.service_ids.held(), desired.services.len());
    }

    #[test]
    fn the_next_agent_finds_what_the_last_one_left(worlds in history()) {
        let (mut state, mut maps) = (State::new(CAPACITY), FakeMaps::new(CAPACITY));
        for world in &worlds {
            reconcile(&mut state, &world.desired(), &mut maps).unwrap();
        }
        let adopted = State::adopt(&mut maps, CAPACITY).unwrap();
        prop_assert!(adopted.unreadable.is_empty());
        prop_assert_eq!(visible(&adopted.state), visible(&state));
        let desired = worlds.last().unwrap().desired();
        prop_assert_eq!(plan(&adopted.state, &desired).unwrap().ops, []);
    }

    #[test]
    fn the_next_agent_goes_on_where_the_last_one_died(worlds in history(), next in crate::datapath::fixture::world(), at in any::<prop::sample::Index>()) {
        let (mut state, mut maps) = (State::new(CAPACITY), FakeMaps::new(CAPACITY));
        for world in &worlds {
            reconcile(&mut state, &world.desired(), &mut maps).unwrap();
        }
        let desired = next.desired();
        let ops = plan(&state, &desired).unwrap().ops;
        for op in ops.iter().take(at.index(ops.len() + 1)) {
            apply_one(&mut state, op, &mut maps).unwrap();
        }
        let mut adopted = State::adopt(&mut maps, CAPACITY).unwrap();
        prop_assert!(adopted.unreadable.is_empty());
        reconcile(&mut adopted.state, &desired, &mut maps).unwrap();
        assert_holds(&adopted.state, &maps, &desired);
    }
}
