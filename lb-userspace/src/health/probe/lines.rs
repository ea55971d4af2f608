//! Servers that speak in lines: mail, news, and whatever a pattern knows.

use regex::bytes::Regex;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::{MOST, Stage, Trouble, Whom, beginning, connect};

/// Bytes of one line that are read.
const LONGEST: u64 = 4096;

async fn connected(whom: Whom, stage: &Stage) -> Result<BufReader<TcpStream>, Trouble> {
    let stream = connect::tcp(whom).await?;
    stage.reached(Stage::ANSWER);
    Ok(BufReader::new(stream))
}

/// The next line, without its end.
async fn line(stream: &mut BufReader<TcpStream>) -> Result<Vec<u8>, Trouble> {
    let mut line = Vec::new();
    let read = stream.take(LONGEST).read_until(b'\n', &mut line).await;
    if read.map_err(|error| Trouble::of(&error))? == 0 {
        return Err(Trouble::Server("it closed the connection".into()));
    }
    Ok(line.trim_ascii_end().to_vec())
}

/// The greeting of a mail server, and a farewell.
pub(super) async fn smtp(whom: Whom, stage: &Stage) -> Result<(), Trouble> {
    let mut stream = connected(whom, stage).await?;
    loop {
        let line = line(&mut stream).await?;
        if !line.starts_with(b"220") {
            let text = beginning(&line);
            return Err(Trouble::Server(format!("SMTP: {text} instead of 220")));
        }
        // `220-` says that more lines come.
        if line.get(3) != Some(&b'-') {
            break;
        }
    }
    farewell(&mut stream).await;
    Ok(())
}

/// The greeting of a news server.
pub(super) async fn nntp(whom: Whom, stage: &Stage) -> Result<(), Trouble> {
    let mut stream = connected(whom, stage).await?;
    let line = line(&mut stream).await?;
    if !line.starts_with(b"2") {
        let text = beginning(&line);
        return Err(Trouble::Server(format!("NNTP: {text} instead of 200")));
    }
    farewell(&mut stream).await;
    Ok(())
}

/// Servers write down who goes without a word. One that has greeted lives,
/// whatever it answers now.
async fn farewell(stream: &mut BufReader<TcpStream>) {
    if stream.write_all(b"QUIT\r\n").await.is_ok() {
        let _ = line(stream).await;
    }
}

/// Sends a text and looks for a line that matches.
pub(super) async fn text(
    whom: Whom,
    send: &str,
    expect: Option<&Regex>,
    stage: &Stage,
) -> Result<(), Trouble> {
    let mut stream = connected(whom, stage).await?;
    let io = |error| Trouble::of(&error);
    stream.write_all(send.as_bytes()).await.map_err(io)?;
    stream.shutdown().await.map_err(io)?;
    let mut seen = 0;
    let mut last = Vec::new();
    loop {
        let mut line = Vec::new();
        let read = (&mut stream)
            .take(LONGEST)
            .read_until(b'\n', &mut line)
            .await;
        seen += read.map_err(io)?;
        if line.is_empty() || seen > MOST {
            let expect = expect.map(Regex::as_str).unwrap_or_default();
            let last = beginning(&last);
            return Err(Trouble::Server(format!(
                "no line matches \"{expect}\"; the last: {last}"
            )));
        }
        if expect.is_none_or(|expect| expect.is_match(line.trim_ascii_end())) {
            return Ok(());
        }
        last = line;
    }
}
