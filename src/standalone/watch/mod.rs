//! `--watch`: the latest results, read from the database, so that what is shown has gone the whole way. A table on a
//! terminal, a line a result anywhere else.
//!
//! It has a thread of its own, where writing may block: whoever looks at the node must not be able to stop it.

mod feed;
mod lines;
mod screen;
mod table;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use actix_rt::Arbiter;
use sitewatch_config::PostgresSettings;
use slog::{Logger, info};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::{Interval, MissedTickBehavior, interval},
};

pub(crate) use self::screen::give_terminal_back;
use self::{
    feed::Feed,
    screen::{Screen, is_table_possible},
    table::Table,
};

/// How often the database is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How old the results may be that the table shows at first.
const RECENT: Duration = Duration::from_secs(3600);
/// A terminal that is not read must not hold up the end.
const FAREWELL: Duration = Duration::from_millis(500);

/// Results are being shown.
pub(crate) struct ResultsView {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl ResultsView {
    /// Shows results of this database until it is stopped, or until standard output is closed.
    pub(crate) fn start(postgres: PostgresSettings, log: Logger) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        Arbiter::new().spawn(async move {
            let shown = tokio::select! {
                shown = show(postgres) => shown,
                _ = stopped => Ok(()),
            };
            if let Err(error) = shown {
                info!(log, "results are not shown any more, the node goes on"; "reason" => %error, "shown_by" => "--watch");
            }
            // A node that has not waited for it needs no word.
            let _ = end.send(());
        });
        Self { stop, ended }
    }

    /// Ends it, and gives the terminal back as it was.
    pub(crate) async fn stop(self) {
        // One that has ended by itself needs no word.
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(FAREWELL, self.ended).await;
    }
}

async fn show(postgres: PostgresSettings) -> io::Result<()> {
    if is_table_possible() {
        show_table(postgres).await
    } else {
        show_lines(postgres).await
    }
}

async fn show_lines(postgres: PostgresSettings) -> io::Result<()> {
    let mut feed = Feed::new(postgres, Duration::ZERO);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut out = io::stdout();
    loop {
        ticks.tick().await;
        let text: String = feed.news().await?.iter().map(lines::line).collect();
        go_on(&feed, &mut ticks);
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
}

async fn show_table(postgres: PostgresSettings) -> io::Result<()> {
    let mut feed = Feed::new(postgres, RECENT);
    let mut resized = signal(SignalKind::window_change())?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut screen = Screen::enter()?;
    let mut table = Table::default();
    loop {
        screen.draw(&table)?;
        tokio::select! {
            _ = ticks.tick() => {
                table.take(feed.news().await?);
                go_on(&feed, &mut ticks);
            }
            () = next(&mut resized) => {}
        }
    }
}

/// Lets the next question come at once where there is more already.
fn go_on(feed: &Feed, ticks: &mut Interval) {
    if feed.is_behind() {
        ticks.reset_immediately();
    }
}

async fn next(signals: &mut Signal) {
    if signals.recv().await.is_none() {
        // No more will come: what is drawn is right at the next tick.
        std::future::pending().await
    }
}
