//! Runs a model: all of it with its rules whole, or until a property breaks with one taken out.
//! Prints what was explored, and the path to what was found.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

/// Whether the bounds are to be the large ones, which take minutes and gigabytes (`docs/models.md`).
pub(crate) fn at_full_size() -> bool {
    std::env::var_os("CAIRN_MODELS_FULL").is_some()
}

/// Explores everything. Every `always` must hold and every `sometimes` must happen.
pub(crate) fn holds<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let began = Instant::now();
    let checker = model.checker().threads(threads()).spawn_bfs().join();
    let (states, depth, took) = (checker.unique_state_count(), checker.max_depth(), began.elapsed());
    eprintln!("{name}: {states} states, {depth} steps deep, {:.1} s", took.as_secs_f64());
    for property in checker.model().properties() {
        let found = checker.discovery(property.name);
        match found {
            Some(path) if property.expectation.discovery_is_failure() => {
                panic!("{name}: not always \"{}\":\n{}", property.name, steps(path))
            }
            None if !property.expectation.discovery_is_failure() => panic!("{name}: never \"{}\"", property.name),
            _ => {}
        }
    }
}

/// Explores until the property is broken, which it must be.
pub(crate) fn breaks<M>(name: &str, model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let began = Instant::now();
    let wanted = HasDiscoveries::AnyOf([property].into());
    let checker = model.checker().threads(threads()).finish_when(wanted).spawn_bfs().join();
    let states = checker.unique_state_count();
    let path = checker.discovery(property).unwrap_or_else(|| {
        panic!(
            "without {name}, \"{property}\" still holds in all {states} states: the rule is not needed, or not tested"
        )
    });
    eprintln!(
        "without {name}, not \"{property}\" ({states} states, {:.1} s):\n{}",
        began.elapsed().as_secs_f64(),
        steps(path)
    );
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A path in lines: what happened, and how it ended.
fn steps<S: Debug, A: Debug>(path: stateright::Path<S, A>) -> String {
    let mut lines = Vec::new();
    let mut last = None;
    for (state, action) in path.into_vec() {
        lines.extend(action.map(|action| format!("  {action:?}")));
        last = Some(state);
    }
    lines.push(format!("  ends in {:?}", last.expect("a path has a state")));
    lines.join("\n")
}
