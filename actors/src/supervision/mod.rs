//! Actors that fail are started again; a failure never takes more with it than it must.
//!
//! [`Unborn::live`] drives one actor and restarts it in place, [`RestartPolicy`] says how often, [`Children`] keeps the
//! running children of a supervising actor, and [`Group`] is such an actor: when one of its children gives up, the group
//! fails and is itself restarted, and beyond its own policy the failure travels up, at last to the process's exit code.
//! The model is Erlang/OTP's supervision tree; the shape of an actor's end (`Exit`) follows quickwit-actors.

mod children;
mod exit;
mod group;
mod policy;
mod supervise;

pub use children::{Children, Ended, Life, LocalLife};
pub use exit::{Exit, Fault};
pub use group::{ChildSpec, Group};
pub use policy::RestartPolicy;
pub use supervise::{Stop, SupervisedActor, Supervision, Unborn};
