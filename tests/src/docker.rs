//! A Docker engine of a test's own, in a private network: what a user's machine is to a connector. It
//! touches no other engine, and is gone when dropped. Needs root, for the network and for the engine.

use std::{
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use tokio::{process::Command, sync::Mutex};

use crate::{
    network::Network,
    process::{PATIENCE, Process},
    world::program,
};

/// The connector's image, as `make image-connector` names it.
pub const CONNECTOR: &str = "postern/connector";
/// The image of control plane and edge, as `make image-postern` names it.
const POSTERN: &str = "postern/postern";

/// Longest build of an image: everything that it needs is compiled anew the first time.
const BUILD: Duration = Duration::from_secs(40 * 60);

/// The engine.
pub struct Docker {
    /// Ends, with everything that it started, when its standard input does.
    engine: Child,
    /// The private network that the engine's machine is in.
    pub network: Network,
    dir: TempDir,
}

impl Docker {
    /// Starts an engine. `None` where none can run, which is said so that nobody overlooks it.
    ///
    /// # Errors
    /// If there is no private network to be had.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        let (network, dir) = (Network::new()?, tempfile::tempdir()?);
        let log = dir.path().join("log");
        let output = fs::File::create(&log)?;
        let engine = std::process::Command::new(repository().join("tests/tools/docker-engine"))
            .args([Path::new(&network.namespace()), &dir.path().join("engine")])
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut docker = Self { engine, network, dir };
        if docker.is_up().await? {
            return Ok(Some(docker));
        }
        let said = fs::read_to_string(log)?;
        let last: Vec<_> = said.lines().rev().take(5).collect();
        announce(&format!("SKIPPED: no Docker engine runs here: {}", last.join(" | ")));
        Ok(None)
    }

    async fn is_up(&mut self) -> anyhow::Result<bool> {
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        let up = async {
            loop {
                pace.tick().await;
                if self.engine.try_wait()?.is_some() {
                    return anyhow::Ok(false);
                }
                if self.docker(["version"]).await.is_ok() {
                    return Ok(true);
                }
            }
        };
        tokio::time::timeout(PATIENCE, up).await.context("the engine neither comes up nor ends")?
    }

    /// Starts an engine that has [`CONNECTOR`], made as a user makes it.
    ///
    /// # Errors
    /// If there is no private network, or the image cannot be made.
    pub async fn start_with_connector() -> anyhow::Result<Option<Self>> {
        let docker = Self::start().await?;
        if let Some(docker) = &docker {
            docker.make_connector().await?;
        }
        Ok(docker)
    }

    async fn make_connector(&self) -> anyhow::Result<()> {
        // The builds of several tests would overwrite the directory that is handed to the engine.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
        let _one = ONE_AT_A_TIME.lock().await;
        let mut make = self.command("make");
        make.arg("image-connector").current_dir(repository());
        let made = tokio::time::timeout(BUILD, output(&mut make)).await;
        made.context("make image-connector does not end")?.map(drop)
    }

    /// Puts the `postern` that this test was built with into an image, as compose/Dockerfile.postern has it.
    /// Built anew without need of any library, as `make image-postern` does, it would take minutes.
    ///
    /// # Errors
    /// If that fails.
    pub async fn image_of_this_postern(&self) -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("data"))?;
        fs::copy(program("postern")?, dir.path().join("postern"))?;
        let context = dir.path().display().to_string();
        let libraries = "ldd postern | grep -o '/[^ ]*' | xargs tar --create --dereference";
        let base = format!("cd {context} && {libraries} --file data/base.tar");
        output(Command::new("sh").args(["-c", &base]).stderr(Stdio::null())).await?;
        self.docker(["import", &format!("{context}/data/base.tar"), "libraries"]).await?;
        fs::remove_file(dir.path().join("data/base.tar"))?;
        let file = repository().join("compose/Dockerfile.postern").display().to_string();
        let build = ["build", "--build-arg", "BASE=libraries", "--tag", POSTERN, "--file", &file];
        self.docker(build.into_iter().chain([context.as_str()])).await.map(drop)
    }

    /// Does what a `docker` command line says; the result is its standard output.
    ///
    /// # Errors
    /// If it fails; the error holds what it said.
    pub async fn docker<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<String> {
        output(self.command("docker").args(arguments)).await
    }

    /// Starts a container in the background; the result is its id.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn run(&self, command_line: &str) -> anyhow::Result<String> {
        let arguments = ["run", "--detach"].into_iter().chain(command_line.split_whitespace());
        Ok(self.docker(arguments).await?.trim().to_owned())
    }

    /// A field of what the engine knows about a container or an image, as a Go template names it.
    ///
    /// # Errors
    /// If there is no such container.
    pub async fn inspect(&self, object: &str, field: &str) -> anyhow::Result<String> {
        let inspected = self.docker(["inspect", "--format", field, object]).await?;
        Ok(inspected.trim().to_owned())
    }

    /// Waits until such a field has a value.
    ///
    /// # Errors
    /// If it does not come to have it.
    pub async fn wait_for(&self, object: &str, field: &str, wanted: &str) -> anyhow::Result<()> {
        let mut last = String::new();
        let asking = async {
            let mut pace = tokio::time::interval(Duration::from_millis(100));
            while last != wanted {
                pace.tick().await;
                last = self.inspect(object, field).await?;
            }
            anyhow::Ok(())
        };
        if let Ok(asked) = tokio::time::timeout(PATIENCE, asking).await {
            return asked;
        }
        bail!("{field} stays {last}, not {wanted}:\n{}", self.logs(object).await?);
    }

    /// All that a container has said on standard output so far.
    ///
    /// # Errors
    /// If there is no such container.
    pub async fn logs(&self, container: &str) -> anyhow::Result<String> {
        self.docker(["logs", container]).await
    }

    /// What a container has said and will say.
    ///
    /// # Errors
    /// If the command cannot be started.
    pub fn follow(&self, container: &str) -> anyhow::Result<Process> {
        let mut docker = self.command("docker");
        docker.args(["logs", "--follow", container]);
        Process::start(container, docker)
    }

    /// Does what a `docker-compose` command line says, in a directory and with variables; the result is
    /// its standard output.
    ///
    /// # Errors
    /// If it fails; the error holds what it said.
    pub async fn compose(
        &self,
        directory: &Path,
        variables: &[(&str, &str)],
        command_line: &str,
    ) -> anyhow::Result<String> {
        let mut compose = self.command("docker-compose");
        compose.args(command_line.split_whitespace()).current_dir(directory);
        output(compose.envs(variables.iter().copied())).await
    }

    fn command(&self, program: &str) -> Command {
        let socket = self.dir.path().join("engine/docker.sock");
        let mut command = Command::new(program);
        command
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .env("DOCKER_CONFIG", self.dir.path())
            .kill_on_drop(true);
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        drop(self.engine.stdin.take());
        // It bounds its own end; nothing useful could be done with an error.
        let _ = self.engine.wait();
    }
}

/// Says something on standard error even where a test's output is kept back.
pub fn announce(text: &str) {
    // Nobody to tell if this fails.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes a secret as people write it, with an editor or echo, to a file that a container's user can read;
/// its directory keeps others from it.
///
/// # Errors
/// If it cannot be written.
pub fn secret_file(directory: &Path, name: &str, secret: &str) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let path = directory.join(name);
    fs::write(&path, format!("{secret}\n"))?;
    fs::set_permissions(&path, Permissions::from_mode(0o444))?;
    Ok(path)
}

/// Where the repository is.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in it")
}

async fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{command:?}: {}\n{text}{said}", output.status);
    Ok(text.into_owned())
}
