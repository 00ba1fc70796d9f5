//! A pipeline of threads whose results are taken in order: see [`Pipeline`].

mod in_order;
mod ordered;
mod stages;
#[cfg(test)]
mod tests;

pub(super) use ordered::{Pipeline, Producer};
pub(super) use stages::{Failed, StageError, Stages};
