//! PostgreSQL: a login, and a query that gives a row.

use std::error::Error as _;

use tokio::task::JoinSet;
use tokio_postgres::{Config, Error, NoTls, SimpleQueryMessage, error::SqlState};

use super::{Stage, Trouble, Whom, connect};
use crate::model::Sql;

pub(super) async fn ask(whom: Whom, sql: &Sql, stage: &Stage) -> Result<(), Trouble> {
    let stream = connect::tcp(whom).await?;
    stage.reached(Stage::ANSWER);
    let mut config = Config::new();
    config.user(&sql.login).application_name("lvx");
    if !sql.password.is_empty() {
        config.password(&sql.password);
    }
    if !sql.database.is_empty() {
        config.dbname(&sql.database);
    }
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(said)?;
    let mut driven = JoinSet::new();
    driven.spawn(connection);
    if sql.query.is_empty() {
        return Ok(());
    }
    let answer = client.simple_query(&sql.query).await.map_err(said)?;
    let row = |message: &SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(_));
    if answer.iter().any(row) {
        Ok(())
    } else {
        Err(Trouble::Server("the query gave no row".into()))
    }
}

fn said(error: Error) -> Trouble {
    let text = match (error.as_db_error(), error.source()) {
        (Some(told), _) if *told.code() == SqlState::INVALID_PASSWORD => "the login fails".into(),
        (Some(told), _) => told.message().to_owned(),
        (None, Some(source)) => source.to_string(),
        (None, None) => error.to_string(),
    };
    Trouble::Server(format!("PostgreSQL: {text}"))
}
