//! Why an actor's life ended.

use std::{any::Any, cell::RefCell, fmt, rc::Rc};

/// Why an actor's life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It stopped by itself or was asked to.
    Stopped,
    /// It raised a [`Fault`]: an error that it can't mend without a fresh start.
    Failed(String),
    /// It panicked, with this message.
    Panicked(String),
    /// It can't work as it is configured, and a fresh start would change nothing.
    Refused(String),
    /// It ended more often than its restart policy allows; the last reason is kept.
    GaveUp(Box<Exit>),
}

impl Exit {
    /// Reads the end of a life from what `catch_unwind` caught and from the fault that the actor may have raised.
    pub(super) fn read(life: Result<(), Box<dyn Any + Send>>, fault: &Fault) -> Self {
        match (life, fault.take()) {
            (Err(panic), _) => Self::Panicked(panic_message(panic.as_ref())),
            (Ok(()), Some(exit)) => exit,
            (Ok(()), None) => Self::Stopped,
        }
    }

    /// The reason why a fresh start would change nothing, if that is how it ended.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused(reason) => Some(reason),
            Self::GaveUp(last) => last.refusal(),
            _ => None,
        }
    }

    /// A short label for metrics: `stopped`, `fault`, `panic`, `refused` or `gave_up`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Failed(_) => "fault",
            Self::Panicked(_) => "panic",
            Self::Refused(_) => "refused",
            Self::GaveUp(_) => "gave_up",
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(fault) => write!(f, "fault: {fault}"),
            Self::Panicked(message) => write!(f, "panic: {message}"),
            Self::Refused(reason) => f.write_str(reason),
            Self::GaveUp(last) => write!(f, "gave up, last {last}"),
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_owned())
}

/// How an actor says that it can't go on: it raises the fault, stops its context, and its supervisor starts it again.
#[derive(Clone, Default)]
pub struct Fault(Rc<RefCell<Option<Exit>>>);

impl Fault {
    /// Records `reason`; the caller then stops its context and is started again.
    pub fn raise(&self, reason: impl fmt::Display) {
        *self.0.borrow_mut() = Some(Exit::Failed(reason.to_string()));
    }

    /// Records that a fresh start would change nothing; the caller then stops its context, and the process ends.
    pub fn refuse(&self, reason: impl fmt::Display) {
        *self.0.borrow_mut() = Some(Exit::Refused(reason.to_string()));
    }

    fn take(&self) -> Option<Exit> {
        self.0.borrow_mut().take()
    }
}
