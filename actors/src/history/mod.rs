//! Questions of people to the history: reports, exports, and what other rules would have made of it. Nothing is changed.

mod export;
mod figures;
mod rejudge;
mod report;

pub use self::export::{
    COLUMNS, ExportError, ExportQuestion, ExportedRow, export_csv, export_rows,
};
pub use self::figures::{Bucket, Budget, Counts, Figures, Incidents};
pub use self::rejudge::{Judgement, RejudgeQuestion, Rejudged, rejudge};
pub use self::report::{GroupReport, Report, ReportQuestion, SiteReport, report};
