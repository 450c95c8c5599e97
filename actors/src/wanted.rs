//! Settings on their way from a reload to the actors that use them.
//!
//! They do not queue: the latest ones replace those that nobody has taken yet, and an actor that waits for something else hears
//! of them meanwhile. The actor then says that it works with them, or why it goes on with those before.

use std::sync::Arc;

use actix::prelude::*;
use futures_util::{Stream, stream};
use tokio::sync::watch;

/// Settings, by the number of their offer.
type Numbered<T> = (u64, Arc<T>);

/// What an actor has made of the settings that it took last.
#[derive(Clone, Default)]
struct Taken {
    number: u64,
    refused: Option<String>,
}

/// The side of the reload: offers settings to one actor.
pub struct Offer<T> {
    latest: watch::Sender<Numbered<T>>,
    taken: watch::Receiver<Taken>,
}

/// The side of the actor. A clone has taken what the original has.
pub struct Wanted<T> {
    latest: watch::Receiver<Numbered<T>>,
    /// The number of the settings that were taken.
    number: u64,
    taken: Arc<watch::Sender<Taken>>,
}

impl<T> Clone for Wanted<T> {
    fn clone(&self) -> Self {
        Self {
            latest: self.latest.clone(),
            number: self.number,
            taken: Arc::clone(&self.taken),
        }
    }
}

/// Returns both sides of a way for settings, of which the actor has taken the first ones.
pub fn way<T>(first: T) -> (Offer<T>, Wanted<T>) {
    let (latest, comes) = watch::channel((0, Arc::new(first)));
    let (told, taken) = watch::channel(Taken::default());
    let wanted = Wanted {
        latest: comes,
        number: 0,
        taken: Arc::new(told),
    };
    (Offer { latest, taken }, wanted)
}

impl<T> Offer<T> {
    /// Offers these settings in the place of all before.
    pub fn send(&self, settings: T) {
        self.latest
            .send_modify(|(number, latest)| (*number, *latest) = (*number + 1, Arc::new(settings)));
    }

    /// Returns true if the actor goes on with earlier settings than it was offered.
    pub fn was_refused(&self) -> bool {
        self.taken.borrow().refused.is_some()
    }

    /// Returns what the actor will say to the latest settings.
    pub fn answer(&self) -> Answer {
        Answer {
            number: self.latest.borrow().0,
            taken: self.taken.clone(),
        }
    }
}

/// What an actor says to settings.
pub struct Answer {
    number: u64,
    taken: watch::Receiver<Taken>,
}

impl Answer {
    /// Waits until the actor works with the settings, or with later ones. One that is gone has nothing to say: its successor
    /// begins with them.
    ///
    /// # Errors
    /// Why it goes on with those before, in words.
    pub async fn comes(mut self) -> Result<(), String> {
        let number = self.number;
        match self.taken.wait_for(|taken| taken.number >= number).await {
            Ok(taken) => taken.refused.clone().map_or(Ok(()), Err),
            Err(_) => Ok(()),
        }
    }
}

/// Says to an actor that other settings are there.
pub struct Changed;

impl<T: 'static> Wanted<T> {
    /// Returns settings that never change.
    pub fn fixed(settings: T) -> Self {
        way(settings).1
    }

    /// Returns the latest settings, also where they were taken before.
    pub fn latest(&self) -> Arc<T> {
        Arc::clone(&self.latest.borrow().1)
    }

    /// Returns true if a reload has ever changed the settings that this actor began with.
    pub fn has_changed_ever(&self) -> bool {
        self.number > 0
    }

    /// Takes the latest settings, unless that was done before.
    pub fn take(&mut self) -> Option<Renewal<T>> {
        let (number, settings) = self.latest.borrow().clone();
        if number <= self.number {
            return None;
        }
        self.number = number;
        Some(Renewal {
            settings,
            number,
            taken: Arc::clone(&self.taken),
        })
    }

    /// Waits until there are settings to take.
    pub async fn changed(&self) {
        let mut latest = self.latest.clone();
        if latest
            .wait_for(|(number, _)| *number > self.number)
            .await
            .is_err()
        {
            std::future::pending().await
        }
    }

    /// Wakes an actor whenever there are other settings. It never ends.
    pub fn changes(&self) -> impl Stream<Item = Changed> + 'static {
        stream::unfold(self.latest.clone(), |mut latest| async move {
            if latest.changed().await.is_err() {
                std::future::pending().await
            }
            Some((Changed, latest))
        })
    }
}

/// Settings that an actor has taken. It says in time what it has made of them.
pub struct Renewal<T> {
    /// What is wanted.
    pub settings: Arc<T>,
    number: u64,
    taken: Arc<watch::Sender<Taken>>,
}

impl<T> Renewal<T> {
    /// The actor works with them.
    pub fn confirm(self) {
        self.say(None);
    }

    /// The actor goes on with those before, for this reason.
    pub fn refuse(self, reason: impl Into<String>) {
        self.say(Some(reason.into()));
    }

    fn say(self, refused: Option<String>) {
        let number = self.number;
        self.taken.send_modify(|taken| {
            if number >= taken.number {
                *taken = Taken { number, refused };
            }
        });
    }
}

impl Message for Changed {
    type Result = ();
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    #[actix_rt::test]
    async fn the_latest_settings_are_taken_and_nothing_waits_for_those_before() {
        let (offer, mut wanted) = way(0);
        assert!(
            offer.answer().comes().now_or_never().is_some(),
            "nothing new"
        );
        let mut changes = std::pin::pin!(wanted.changes());
        for n in 1..=8 {
            offer.send(n);
        }
        let answer = offer.answer();
        assert!(changes.next().now_or_never().is_some());
        wanted.changed().await;
        let copy = wanted.clone();
        let change = wanted.take().unwrap();
        assert_eq!(*change.settings, 8);
        assert!(wanted.take().is_none() && wanted.changed().now_or_never().is_none());
        assert!(offer.answer().comes().now_or_never().is_none());
        change.confirm();
        assert_eq!(answer.comes().await, Ok(()));
        // A copy of before, as of an actor that starts again, takes them once more.
        assert_eq!(copy.clone().take().map(|change| *change.settings), Some(8));

        offer.send(9);
        let answer = offer.answer();
        wanted.take().unwrap().refuse("no");
        assert_eq!(answer.comes().await, Err("no".to_owned()));
        assert!(offer.was_refused());
        offer.send(10);
        let answer = offer.answer();
        drop((wanted, copy));
        assert_eq!(
            answer.comes().await,
            Ok(()),
            "nobody is there to say anything"
        );
    }
}
