//! The cluster, and the numbers that are counted in the state.

use cairn_common::ids::ClusterId;

use super::Record;
use super::wire::{Reader, Writer};

/// What the cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) cluster: ClusterId,
    pub(crate) partitions: u32,
    pub(crate) replicas: u8,
    pub(crate) feature_level: u32,
}

/// A counter, or a number that a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) u64);

impl Record for Cluster {
    const NAME: &'static str = "cluster";

    fn write(&self, out: &mut Writer) {
        v1::write_cluster(self, out);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => v1::read_cluster(input),
            _ => None,
        }
    }
}

impl Record for Number {
    const NAME: &'static str = "number";

    fn write(&self, out: &mut Writer) {
        v1::write_number(*self, out);
    }

    fn read(version: u8, input: &mut Reader<'_>) -> Option<Self> {
        match version {
            1 => v1::read_number(input),
            _ => None,
        }
    }
}

/// Cluster: `{cluster u128}{partitions u32}{replicas u8}{feature level u32}`. Number: `{u64}`.
mod v1 {
    use super::*;

    pub(super) fn write_cluster(cluster: &Cluster, out: &mut Writer) {
        out.u128(cluster.cluster.0);
        out.u32(cluster.partitions);
        out.u8(cluster.replicas);
        out.u32(cluster.feature_level);
    }

    pub(super) fn read_cluster(input: &mut Reader<'_>) -> Option<Cluster> {
        Some(Cluster {
            cluster: ClusterId(input.u128()?),
            partitions: input.u32()?,
            replicas: input.u8()?,
            feature_level: input.u32()?,
        })
    }

    pub(super) fn write_number(number: Number, out: &mut Writer) {
        out.u64(number.0);
    }

    pub(super) fn read_number(input: &mut Reader<'_>) -> Option<Number> {
        input.u64().map(Number)
    }
}
