//! An install's schedules, kept and fired by the platform.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::Api;
use crate::{Caller, Platform, PlatformError, Problem};

/// `schedule-info` of the guest interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleInfo {
    /// A UUID.
    pub id: String,
    /// The endpoint that is called.
    pub endpoint_path: String,
    /// Its method.
    pub endpoint_method: String,
    /// Unique within the install.
    pub name: Option<String>,
    /// Five fields.
    pub cron: String,
    /// An IANA name.
    pub timezone: String,
    /// Whether it fires.
    pub enabled: bool,
    /// JSON text of what the endpoint gets.
    pub payload: Option<String>,
    /// RFC 3339.
    pub last_run_at: Option<String>,
    /// The platform's word for it.
    pub last_run_status: Option<String>,
    /// The platform's words.
    pub last_error: Option<String>,
    /// RFC 3339.
    pub created_at: Option<String>,
}

/// `endpoint-info` of the guest interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EndpointInfo {
    /// Its id.
    pub id: String,
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// What of the extension answers it.
    pub handler: String,
    /// Whether a schedule may call it: GET or POST without path parameters.
    pub schedulable: bool,
}

/// `create-schedule-input` of the guest interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateScheduleInput {
    /// A path, or `METHOD path`.
    pub endpoint: String,
    /// Five fields.
    pub cron: String,
    /// UTC unless given.
    pub timezone: Option<String>,
    /// True unless given.
    pub enabled: Option<bool>,
    /// Unique within the install.
    pub name: Option<String>,
    /// JSON text.
    pub payload: Option<String>,
}

/// `update-schedule-input` of the guest interface. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateScheduleInput {
    /// A path, or `METHOD path`.
    pub endpoint: Option<String>,
    /// Five fields.
    pub cron: Option<String>,
    /// An IANA name.
    pub timezone: Option<String>,
    /// Whether it fires.
    pub enabled: Option<bool>,
    /// Unique within the install.
    pub name: Option<String>,
    /// JSON text; blank clears it.
    pub payload: Option<String>,
}

/// `create-schedule-result` of the guest interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateScheduleResult {
    /// Whether it was created.
    pub success: bool,
    /// Its id, if it was.
    pub schedule_id: Option<String>,
    /// Why not, in words.
    pub error: Option<String>,
    /// Why not, by field: a JSON object of strings.
    pub field_errors: Option<String>,
}

/// `update-schedule-result` of the guest interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateScheduleResult {
    /// Whether it was changed.
    pub success: bool,
    /// Why not, in words.
    pub error: Option<String>,
    /// Why not, by field: a JSON object of strings.
    pub field_errors: Option<String>,
}

/// `delete-schedule-result` of the guest interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteScheduleResult {
    /// Whether it was deleted.
    pub success: bool,
    /// Why not, in words.
    pub error: Option<String>,
}

impl From<&PlatformError> for CreateScheduleResult {
    fn from(error: &PlatformError) -> Self {
        Self {
            success: false,
            schedule_id: None,
            error: Some(error.guest_text()),
            field_errors: error.guest_field_errors(),
        }
    }
}

impl From<&PlatformError> for UpdateScheduleResult {
    fn from(error: &PlatformError) -> Self {
        Self { success: false, error: Some(error.guest_text()), field_errors: error.guest_field_errors() }
    }
}

impl From<&PlatformError> for DeleteScheduleResult {
    fn from(error: &PlatformError) -> Self {
        Self { success: false, error: Some(error.guest_text()) }
    }
}

#[derive(Serialize)]
#[serde(tag = "operation", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Operation<'a> {
    List,
    Get {
        schedule_id: &'a str,
    },
    Create {
        endpoint: &'a str,
        cron: &'a str,
        #[serde(flatten)]
        rest: Rest<'a>,
    },
    Update {
        schedule_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        endpoint: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cron: Option<&'a str>,
        #[serde(flatten)]
        rest: Rest<'a>,
    },
    Delete {
        schedule_id: &'a str,
    },
    GetEndpoints,
}

/// The platform refuses `null` for what is absent, but for the payload, which `null` clears.
#[derive(Serialize)]
struct Rest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Value>,
}

#[derive(Deserialize)]
struct Schedules {
    schedules: Vec<Value>,
}

#[derive(Deserialize)]
struct Endpoints {
    endpoints: Vec<Value>,
}

#[derive(Deserialize)]
struct Schedule {
    id: String,
    #[serde(rename = "endpointPath", alias = "endpoint_path")]
    endpoint_path: String,
    #[serde(rename = "endpointMethod", alias = "endpoint_method")]
    endpoint_method: String,
    name: Option<String>,
    cron: String,
    timezone: String,
    enabled: bool,
    #[serde(default)]
    payload: Value,
    #[serde(rename = "lastRunAt", alias = "last_run_at")]
    last_run_at: Option<String>,
    #[serde(rename = "lastRunStatus", alias = "last_run_status")]
    last_run_status: Option<String>,
    #[serde(rename = "lastError", alias = "last_error")]
    last_error: Option<String>,
    #[serde(rename = "createdAt", alias = "created_at")]
    created_at: Option<String>,
}

impl From<Schedule> for ScheduleInfo {
    fn from(wire: Schedule) -> Self {
        Self {
            id: wire.id,
            endpoint_path: wire.endpoint_path,
            endpoint_method: wire.endpoint_method,
            name: wire.name,
            cron: wire.cron,
            timezone: wire.timezone,
            enabled: wire.enabled,
            payload: (!wire.payload.is_null()).then(|| wire.payload.to_string()),
            last_run_at: wire.last_run_at,
            last_run_status: wire.last_run_status,
            last_error: wire.last_error,
            created_at: wire.created_at,
        }
    }
}

impl Platform {
    /// All schedules of the install. What the platform sends and is no schedule is left out.
    ///
    /// # Errors
    /// As every operation.
    pub async fn schedules_list(&self, caller: &Caller<'_>) -> Result<Vec<ScheduleInfo>, PlatformError> {
        let answer: Schedules = self.call(Api::Scheduler, caller, &Operation::List).await?;
        let schedules =
            answer.schedules.into_iter().filter_map(|s| serde_json::from_value::<Schedule>(s).ok());
        Ok(schedules.map(ScheduleInfo::from).collect())
    }

    /// A schedule, if there is one with this id.
    ///
    /// # Errors
    /// As every operation.
    pub async fn schedules_get(
        &self,
        caller: &Caller<'_>,
        schedule_id: &str,
    ) -> Result<Option<ScheduleInfo>, PlatformError> {
        let answer: Map<String, Value> =
            self.call(Api::Scheduler, caller, &Operation::Get { schedule_id }).await?;
        match answer.get("schedule") {
            None => Err(PlatformError::Malformed("no schedule")),
            Some(Value::Null) => Ok(None),
            Some(schedule) => match serde_json::from_value::<Schedule>(schedule.clone()) {
                Ok(schedule) => Ok(Some(schedule.into())),
                Err(_) => {
                    Err(PlatformError::Malformed("a field of the schedule is missing or of the wrong type"))
                }
            },
        }
    }

    /// Creates a schedule. Its id.
    ///
    /// # Errors
    /// [`PlatformError::BadRequest`] with what is wrong with the input; `CreateScheduleResult::from` keeps it for the guest.
    pub async fn schedules_create(
        &self,
        caller: &Caller<'_>,
        input: &CreateScheduleInput,
    ) -> Result<CreateScheduleResult, PlatformError> {
        let payload = input.payload.as_deref().map(json).transpose()?;
        let create = Operation::Create {
            endpoint: &input.endpoint,
            cron: &input.cron,
            rest: Rest {
                timezone: input.timezone.as_deref(),
                enabled: input.enabled,
                name: input.name.as_deref(),
                payload,
            },
        };
        let answer = self.write(caller, &create).await?;
        match ["scheduleId", "schedule_id"].iter().find_map(|n| answer.get(*n)?.as_str()) {
            Some(id) => Ok(CreateScheduleResult {
                success: true,
                schedule_id: Some(id.to_owned()),
                ..CreateScheduleResult::default()
            }),
            None => Err(PlatformError::Malformed("no id of the new schedule")),
        }
    }

    /// Changes what is given of a schedule.
    ///
    /// The platform clears name and payload of a schedule in every update that leaves them out. So what is not given is read
    /// and sent again; a change of it by somebody else between the two requests is lost.
    ///
    /// # Errors
    /// [`PlatformError::BadRequest`] with what is wrong with the input; `UpdateScheduleResult::from` keeps it for the guest.
    pub async fn schedules_update(
        &self,
        caller: &Caller<'_>,
        schedule_id: &str,
        input: &UpdateScheduleInput,
    ) -> Result<UpdateScheduleResult, PlatformError> {
        // Before anything is sent.
        let mut payload = match input.payload.as_deref() {
            None => None,
            Some(text) if text.trim().is_empty() => Some(Value::Null),
            Some(text) => Some(json(text)?),
        };
        let mut name = input.name.clone();
        if name.is_none() || payload.is_none() {
            // One that is not there is for the update to refuse, in the platform's words.
            let current = self.schedules_get(caller, schedule_id).await?;
            if let Some(current) = current {
                name = name.or(current.name);
                payload = payload.or_else(|| serde_json::from_str(current.payload.as_deref()?).ok());
            }
        }
        let update = Operation::Update {
            schedule_id,
            endpoint: input.endpoint.as_deref(),
            cron: input.cron.as_deref(),
            rest: Rest {
                timezone: input.timezone.as_deref(),
                enabled: input.enabled,
                name: name.as_deref(),
                payload,
            },
        };
        self.write(caller, &update).await?;
        Ok(UpdateScheduleResult { success: true, error: None, field_errors: None })
    }

    /// Deletes a schedule.
    ///
    /// # Errors
    /// [`PlatformError::BadRequest`] when there is none; `DeleteScheduleResult::from` keeps the words for the guest.
    pub async fn schedules_delete(
        &self,
        caller: &Caller<'_>,
        schedule_id: &str,
    ) -> Result<DeleteScheduleResult, PlatformError> {
        self.write(caller, &Operation::Delete { schedule_id }).await?;
        Ok(DeleteScheduleResult { success: true, error: None })
    }

    /// The extension's endpoints. What the platform sends and is no endpoint is left out.
    ///
    /// # Errors
    /// As every operation.
    pub async fn endpoints(&self, caller: &Caller<'_>) -> Result<Vec<EndpointInfo>, PlatformError> {
        let answer: Endpoints = self.call(Api::Scheduler, caller, &Operation::GetEndpoints).await?;
        Ok(answer.endpoints.into_iter().filter_map(|e| serde_json::from_value(e).ok()).collect())
    }

    /// A write succeeds when both the status and the body say so.
    async fn write(
        &self,
        caller: &Caller<'_>,
        operation: &Operation<'_>,
    ) -> Result<Map<String, Value>, PlatformError> {
        let answer: Map<String, Value> = self.call(Api::Scheduler, caller, operation).await?;
        match answer.get("success") {
            Some(Value::Bool(true)) => Ok(answer),
            Some(Value::Bool(false)) => Err(PlatformError::BadRequest(Problem::of(&answer, self.token()))),
            _ => Err(PlatformError::Malformed("neither success nor failure")),
        }
    }
}

/// A payload's JSON.
fn json(text: &str) -> Result<Value, PlatformError> {
    serde_json::from_str(text).map_err(|_| PlatformError::Invalid { field: "payload", rule: "must be JSON" })
}
