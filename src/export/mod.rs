//! The command `export`: checks as they are stored, for a warehouse.

mod out;
mod parquet;

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use sitewatch_actors::{
    history::{self, ExportError, ExportQuestion},
    private,
};
use sitewatch_config::{Settings, Sources};

use self::{out::Out, parquet::ParquetWriter};
use crate::{
    audit::failure, exit::Failure, range::RangeArguments, standalone::with_database,
    whose::WhoseArguments,
};

/// What `export` is asked.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// How it is written
    #[arg(long, value_enum)]
    format: Format,
    /// Which time
    #[command(flatten)]
    range: RangeArguments,
    /// The file [default: standard output]. It is there when it is whole
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Which sites
    #[command(flatten)]
    whose: WhoseArguments,
}

/// How checks are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Apache Parquet, packed with zstd
    Parquet,
    /// Text with a head line
    Csv,
}

/// Writes them, and tells how many on standard error.
pub(crate) fn export(sources: &Sources, arguments: &ExportArguments) -> Result<(), Failure> {
    let (from, to) = arguments.range.range()?;
    if arguments.format == Format::Parquet && arguments.out.is_none() && io::stdout().is_terminal()
    {
        return Err(Failure::usage(
            "Parquet is nothing for a terminal: say --out FILE",
        ));
    }
    let question = ExportQuestion {
        from,
        to,
        whose: arguments.whose.whose(),
    };
    let rows = with_database(sources, "export", async |settings| {
        let rows = match &arguments.out {
            Some(file) if file != Path::new("-") => {
                into_file(settings, &question, arguments.format, file).await
            }
            _ => write(settings, &question, arguments.format, io::stdout()).await,
        };
        rows.map_err(|error| match error {
            ExportError::Ask(error) => failure(&error),
            ExportError::Write(_) => Failure::io(error),
        })
    })?;
    // Beside the rows, which may go to standard output.
    let _ = writeln!(io::stderr(), "{rows} checks written");
    Ok(())
}

/// Writes beside the file and puts it in its place when it is whole. What is there and is no file, such as a FIFO, is written to; a
/// symbolic link stays.
async fn into_file(
    settings: &Settings,
    question: &ExportQuestion,
    format: Format,
    file: &Path,
) -> Result<u64, ExportError> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    let file = &std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let is_special = std::fs::metadata(file).is_ok_and(|it| !it.is_file() && !it.is_dir());
    if is_special {
        let out = File::options().write(true).open(file).map_err(named)?;
        return write(settings, question, format, out).await;
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = Partial(file.with_file_name(name));
    let out = Arc::new(make(&partial.0, file).map_err(named)?);
    let rows = write(settings, question, format, Arc::clone(&out)).await?;
    out.sync_all().map_err(named)?;
    std::fs::rename(&partial.0, file).map_err(named)?;
    Ok(rows)
}

/// A file that is not whole yet. It goes with this value, also where a signal ends the export.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Renamed, it is not there any more. That it can't be removed changes nothing of what is told.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Makes the file that is put in the place of `file` later. What sites answered is in it: it is its owner's only, unless one was
/// there that others may read.
fn make(partial: &Path, file: &Path) -> io::Result<File> {
    match std::fs::remove_file(partial) {
        // What a process of the same number left, as in a container.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let made = private::options()
        .write(true)
        .create_new(true)
        .open(partial)?;
    if let Ok(before) = std::fs::metadata(file)
        && before.is_file()
    {
        made.set_permissions(before.permissions())?;
    }
    Ok(made)
}

async fn write(
    settings: &Settings,
    question: &ExportQuestion,
    format: Format,
    out: impl Write + Send + 'static,
) -> Result<u64, ExportError> {
    let mut out = Out::new(out)?;
    match format {
        Format::Csv => {
            let take = async |line: Bytes| out.take(&line).await;
            let rows = history::export_csv(&settings.postgres, question, take).await?;
            out.finish().await?;
            Ok(rows)
        }
        Format::Parquet => {
            let mut writer = ParquetWriter::new(out)?;
            let take = async |row| writer.take(row).await;
            let rows = history::export_rows(&settings.postgres, question, take).await?;
            writer.finish().await?;
            Ok(rows)
        }
    }
}
