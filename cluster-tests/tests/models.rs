//! The protocols that have no room for error, as models: stateright tries every order of their
//! steps, with messages lost, late and doubled, up to stated bounds. The steps call the real rules
//! where these exist. Each rule that protects something is also taken out, and a counterexample must
//! be found. What each model says in words, and how far it was explored: `docs/models.md`.

#[path = "models/check.rs"]
mod check;
#[path = "models/collection/mod.rs"]
mod collection;
#[path = "models/leases/mod.rs"]
mod leases;
#[path = "models/movement/mod.rs"]
mod movement;
