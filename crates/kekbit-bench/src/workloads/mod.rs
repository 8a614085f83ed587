//! What is measured. Each workload is generic over its peer, so that its loop is compiled for each of them and nothing is
//! dispatched while it is measured.

pub(crate) mod append;
pub(crate) mod command;
pub(crate) mod costs;
pub(crate) mod open_loop;
pub(crate) mod pingpong;
pub(crate) mod rolls;
pub(crate) mod scan;
pub(crate) mod stages;
pub(crate) mod stream;
