use anyhow::Result;
use lvx_tests::lab::clean;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Name of the lab, as `demo --keep` printed it; without it the labs are listed.
    name: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.name {
        Some(name) => clean::remove(name)?,
        None if clean::names().is_empty() => println!("no labs"),
        None => clean::names().iter().for_each(|name| println!("{name}")),
    }
    Ok(())
}
