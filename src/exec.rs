//! The one door to external programs (to be merged with the full one).

use tokio::process::Command;

/// A command in a process group of its own that outlives its handle. `argv[0]` is the program.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn command(argv: &[String]) -> Command {
    let (program, arguments) = argv
        .split_first()
        .map_or(("", argv), |(program, rest)| (program.as_str(), rest));
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).kill_on_drop(false);
    command
}
