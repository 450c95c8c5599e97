//! One check: its attempts, one after another.

use super::{
    gate::Pass,
    prober::Part,
    trial::{Checked, Trial},
};

/// Makes one check of a part of a site.
pub(super) async fn check_part(mut trial: Trial<'_>, pass: Pass<'_>, part: Part<'_>) -> Checked {
    let Trial { site, around, .. } = trial;
    let mut pass = pass;
    loop {
        let mut attempt = around.prober.attempt(site, part).await;
        drop(pass);
        around.bodies.look(site, &mut attempt, part.is_slow).await;
        if let Some(verdict) = trial.judge(&attempt) {
            return trial.report(attempt, verdict, part.address);
        }
        if let Some(kept) = part.kept {
            kept.let_go();
        }
        pass = trial.wait_for_retry().await;
    }
}
