//! Checks as a Parquet file: rows are gathered into row groups, which are written one after the other.

use std::{io, mem, sync::Arc};

use parquet::{
    basic::{Compression, ZstdLevel},
    column::writer::ColumnWriter,
    data_type::ByteArray,
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use sitewatch_actors::history::ExportedRow;

use super::out::Out;

/// The rows of a row group, all held in memory: about 30 MB, with long details.
const ROW_GROUP: usize = 100_000;

/// `detail` last, as in [`sitewatch_actors::history::COLUMNS`].
const SCHEMA: &str = "
    message check {
        required binary site (STRING);
        optional binary group (STRING);
        required binary location (STRING);
        required int64 slot (TIMESTAMP(MICROS, true));
        required binary outcome (STRING);
        optional binary error (STRING);
        optional int32 status;
        optional int32 total_us;
        optional int32 ttfb_us;
        required int32 lateness_ms;
        optional binary detail (STRING);
    }";

/// Writes checks.
pub(super) struct ParquetWriter {
    file: SerializedFileWriter<Vec<u8>>,
    rows: Vec<ExportedRow>,
    out: Out,
}

impl ParquetWriter {
    /// Begins the file.
    pub(super) fn new(out: Out) -> io::Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA).map_err(io::Error::other)?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(concat!("sitewatch-node ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties));
        Ok(Self {
            file: file.map_err(io::Error::other)?,
            rows: Vec::new(),
            out,
        })
    }

    /// Takes a row.
    pub(super) async fn take(&mut self, row: ExportedRow) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() == ROW_GROUP {
            self.write_group()?;
            self.file.flush()?;
            let written = mem::take(self.file.inner_mut());
            self.out.take(&written).await?;
        }
        Ok(())
    }

    /// Ends the file.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.write_group()?;
        let written = self.file.into_inner().map_err(io::Error::other)?;
        self.out.take(&written).await?;
        self.out.finish().await
    }

    fn write_group(&mut self) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        write_group(&mut self.file, &self.rows).map_err(io::Error::other)?;
        self.rows.clear();
        Ok(())
    }
}

fn write_group(
    file: &mut SerializedFileWriter<Vec<u8>>,
    rows: &[ExportedRow],
) -> Result<(), ParquetError> {
    let mut group = file.next_row_group()?;
    let mut number = 0;
    while let Some(mut column) = group.next_column()? {
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(writer) => {
                let text = |row: &ExportedRow| -> Option<ByteArray> {
                    let text = match number {
                        0 => Some(row.site.as_str()),
                        1 => row.group.as_deref(),
                        2 => Some(row.location.as_str()),
                        4 => Some(row.outcome.as_str()),
                        5 => row.error.as_deref(),
                        _ => row.detail.as_deref(),
                    };
                    text.map(ByteArray::from)
                };
                let (values, present) = values(rows, text);
                writer.write_batch(&values, optional(number).then_some(&*present), None)?;
            }
            ColumnWriter::Int64ColumnWriter(writer) => {
                let slots: Vec<_> = rows.iter().map(|row| row.slot_us).collect();
                writer.write_batch(&slots, None, None)?;
            }
            ColumnWriter::Int32ColumnWriter(writer) => {
                let number_of = |row: &ExportedRow| match number {
                    6 => row.status,
                    7 => row.total_us,
                    8 => row.ttfb_us,
                    _ => Some(row.lateness_ms),
                };
                let (values, present) = values(rows, number_of);
                writer.write_batch(&values, optional(number).then_some(&*present), None)?;
            }
            _ => {
                return Err(ParquetError::General(
                    "a column of a type that the schema has not got".to_owned(),
                ));
            }
        }
        column.close()?;
        number += 1;
    }
    group.close()?;
    Ok(())
}

/// Whether there may be nothing in the column of this number.
fn optional(number: usize) -> bool {
    matches!(number, 1 | 5..=8 | 10)
}

/// What there is, and for each row whether there is something (1) or not (0).
fn values<T>(rows: &[ExportedRow], of: impl Fn(&ExportedRow) -> Option<T>) -> (Vec<T>, Vec<i16>) {
    let found: Vec<_> = rows.iter().map(of).collect();
    let present = found
        .iter()
        .map(|value| i16::from(value.is_some()))
        .collect();
    (found.into_iter().flatten().collect(), present)
}
