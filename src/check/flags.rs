//! The options of a site as flags, made from the settings' own list of them.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};
use sitewatch_config::{FLAGS, FlagForm};

/// The flags that were given, with the texts after them.
#[derive(Clone, Debug, Default)]
pub struct SiteFlags(pub Vec<(String, Vec<String>)>);

impl Args for SiteFlags {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, flag| {
            let arg = Arg::new(flag.name)
                .long(flag.name)
                .help(flag.help)
                // So that "-1" is told to be no number that is right here, and is not taken for a flag.
                .allow_negative_numbers(true)
                .help_heading("Options of the site, as in the settings file");
            command.arg(match flag.form {
                FlagForm::Switch => arg
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .hide_possible_values(true)
                    .value_name("BOOL"),
                FlagForm::List | FlagForm::Pairs => {
                    arg.value_name(flag.value_name).action(ArgAction::Append)
                }
                FlagForm::Text | FlagForm::Parts | FlagForm::Yaml => {
                    arg.value_name(flag.value_name)
                }
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SiteFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Vec::new();
        for flag in FLAGS {
            let texts = matches
                .try_get_many::<String>(flag.name)
                .map_err(|error| clap::Error::raw(ErrorKind::InvalidValue, error))?;
            if let Some(texts) = texts {
                flags.push((flag.name.to_owned(), texts.cloned().collect()));
            }
        }
        Ok(Self(flags))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
