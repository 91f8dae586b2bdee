//! When a driver is to end: a shutdown future from outside, and what its handle asks for.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::watch;

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    /// No stop yet.
    Running,
    /// Take nothing new, finish what is in flight.
    Closing,
    /// Leave now.
    Finish,
}

/// The driver's side.
pub(crate) struct Stop {
    shutdown: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    asked: Option<watch::Receiver<Phase>>,
    phase: Phase,
}

impl Stop {
    /// A stop by `shutdown`, by the handle's word, or by the handle's end.
    pub(crate) fn new(shutdown: impl Future<Output = ()> + Send + 'static) -> (watch::Sender<Phase>, Self) {
        let (handle, asked) = watch::channel(Phase::Running);
        (handle, Self { shutdown: Some(Box::pin(shutdown)), asked: Some(asked), phase: Phase::Running })
    }

    /// The phase that was last seen by [`Stop::changed`].
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Waits for a later phase. May be dropped and called again at any time.
    pub(crate) async fn changed(&mut self) -> Phase {
        loop {
            let seen = tokio::select! {
                () = wait(&mut self.shutdown) => { self.shutdown = None; Phase::Closing }
                phase = asked(&mut self.asked) => phase,
            };
            if seen == Phase::Finish {
                self.asked = None;
            }
            if seen > self.phase {
                self.phase = seen;
                return seen;
            }
        }
    }
}

async fn wait(shutdown: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    match shutdown {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// A handle that is gone can release nothing more: that is the end.
async fn asked(handle: &mut Option<watch::Receiver<Phase>>) -> Phase {
    match handle {
        Some(receiver) => match receiver.changed().await {
            Ok(()) => *receiver.borrow_and_update(),
            Err(_) => Phase::Finish,
        },
        None => std::future::pending().await,
    }
}
