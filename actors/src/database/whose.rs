//! Which sites people mean.

use tokio_postgres::Client;

use super::ask::AskError;
use crate::model::Whose;

/// Refuses names, groups and tags that nobody has ever announced: most often they are mistyped.
pub(crate) async fn refuse_unknown(client: &Client, whose: &Whose) -> Result<(), AskError> {
    for (what, names, known) in [
        ("site", &whose.sites, KNOWN_SITE),
        ("group", &whose.groups, KNOWN_GROUP),
        ("tag", &whose.tags, KNOWN_TAG),
    ] {
        for name in names {
            if client.query(known, &[name]).await?.is_empty() {
                return Err(AskError::Unknown(what, name.clone()));
            }
        }
    }
    Ok(())
}

/// The numbers of the sites that are meant; `None` is all. Refuses what nobody has ever announced.
pub(crate) async fn numbers(client: &Client, whose: &Whose) -> Result<Option<Vec<i32>>, AskError> {
    if whose.is_all() {
        return Ok(None);
    }
    refuse_unknown(client, whose).await?;
    let meant = client
        .query(MEANT, &[&whose.sites, &whose.groups, &whose.tags])
        .await?;
    Ok(Some(meant.iter().map(|row| row.get(0)).collect()))
}

const KNOWN_SITE: &str =
    "SELECT FROM site WHERE name = $1 UNION ALL SELECT FROM site_alias WHERE name = $1";

const KNOWN_GROUP: &str = "SELECT FROM site WHERE group_name = $1 LIMIT 1";

const KNOWN_TAG: &str = "SELECT FROM site WHERE $1 = ANY (tags) LIMIT 1";

const MEANT: &str = "
    SELECT site_id FROM site
     WHERE name = ANY ($1) OR group_name = ANY ($2) OR tags && $3
        OR site_id IN (SELECT site_id FROM site_alias WHERE name = ANY ($1)) ORDER BY 1";
