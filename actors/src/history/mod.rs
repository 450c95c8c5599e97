//! Questions of people to the history: reports, exports, and what other rules would have made of it. Nothing is changed.

mod report;

pub use self::report::{Bucket, Counts, Incidents, Report, ReportQuestion, SiteReport, report};
