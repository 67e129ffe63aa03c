//! Clusters of real processes for tests: started by `cairnctl dev up` as people start them, killed
//! by pid, asked by `dev status --json`, and gone when the test ends, however it ends. The harness
//! knows files and programs of a local cluster, never the code of a server.

mod amnesia_host;
mod cluster;
mod flip;
mod locker;
mod mapping;
mod metrics;
mod pause;
mod process;
mod programs;
mod seed;
mod size;
mod small_disks;
mod status;
mod wait;

pub use amnesia_host::AmnesiaHost;
pub use cluster::{DevCluster, PreparedStart, Shape};
pub use flip::Flipper;
pub use locker::Locker;
pub use mapping::SharedMapping;
pub use pause::{PauseMeter, Pauses};
pub use process::{Stopped, is_alive};
pub use programs::program;
pub use seed::Seed;
pub use size::size;
pub use status::{Disk, Mount, Node, Status};
pub use wait::{drop_caches, wait_for};
