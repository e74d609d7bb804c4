//! The wire: messages, channels, errors.

pub mod answer;
pub mod bulk;
pub mod dial;
pub mod frame;
pub mod job;
pub mod link;
pub mod local;
pub mod peers;
pub mod pool;
pub mod status;
pub mod tls;

/// Generated from proto/.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    /// The process view.
    pub mod proc {
        tonic::include_proto!("krg.proc.v1");
    }
    /// Liveness.
    pub mod member {
        tonic::include_proto!("krg.member.v1");
    }
    /// Agreement.
    pub mod raft {
        tonic::include_proto!("krg.raft.v1");
    }
    /// Becoming a member.
    pub mod join {
        tonic::include_proto!("krg.join.v1");
    }
    /// What nodes tell each other to do.
    pub mod order {
        tonic::include_proto!("krg.order.v1");
    }
    /// Jobs of this machine.
    pub mod job {
        tonic::include_proto!("krg.job.v1");
    }
    /// Capabilities of processes.
    pub mod capability {
        tonic::include_proto!("krg.capability.v1");
    }
    /// What a viewer knows, for commands of its machine.
    pub mod view {
        tonic::include_proto!("krg.view.v1");
    }
    /// This machine's own commands.
    pub mod control {
        tonic::include_proto!("krg.control.v1");
    }
}

pub use prost;
pub use tonic;
