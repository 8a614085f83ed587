//! Chains of stages: whatever chain a record goes through, every reader gets out what went in, live and afterwards; damage to
//! what is in the file is noticed; and whatever a stage or an encoder does wrong leaves no trace.

mod common;

#[path = "chains/any.rs"]
mod any;
#[path = "chains/damage.rs"]
mod damage;
#[path = "chains/failures.rs"]
mod failures;
#[path = "chains/round_trip.rs"]
mod round_trip;
#[path = "chains/trap.rs"]
mod trap;
