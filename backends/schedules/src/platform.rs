//! The scheduler interface over the platform's API (interop 6.3). The platform checks, keeps and fires; the gateways here fire
//! nothing.

use async_trait::async_trait;
use longshore_platform::{
    Caller, CreateScheduleInput, CreateScheduleResult, DeleteScheduleResult, Platform, PlatformError,
    ScheduleInfo, SchedulerFault, UpdateScheduleInput, UpdateScheduleResult,
};

use crate::model::{
    EndpointInfo, NewSchedule, Schedule, ScheduleChange, Schedules, SchedulesError, Scope, WriteError,
};

/// Schedules that the platform keeps.
pub struct PlatformSchedules(Platform);

impl PlatformSchedules {
    /// Schedules behind this client.
    pub fn new(platform: Platform) -> Self {
        Self(platform)
    }
}

fn caller<'a>(scope: &Scope<'a>) -> Caller<'a> {
    Caller { install: scope.install, request_id: scope.run.context.request_id.as_deref() }
}

fn readable(error: PlatformError) -> SchedulesError {
    match SchedulerFault::from(&error) {
        SchedulerFault::NotFound => SchedulesError::NotFound,
        SchedulerFault::ValidationFailed => SchedulesError::Validation(error.to_string()),
        SchedulerFault::QuotaExceeded => SchedulesError::Quota(error.to_string()),
        SchedulerFault::Denied => SchedulesError::Denied,
        SchedulerFault::Internal => SchedulesError::Internal(error.into()),
    }
}

/// What the guest is told, and the cause for the log where it was neither the guest's nor the tenant's.
fn write_error(error: PlatformError, text: Option<String>, field_errors: Option<&str>) -> WriteError {
    let fields = field_errors.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let internal = SchedulerFault::from(&error) == SchedulerFault::Internal;
    WriteError {
        message: text.unwrap_or_else(|| "the platform refused".to_owned()),
        field_errors: fields,
        source: internal.then(|| error.into()),
    }
}

fn schedule(info: ScheduleInfo) -> Schedule {
    Schedule {
        id: info.id,
        endpoint_path: info.endpoint_path,
        endpoint_method: info.endpoint_method,
        name: info.name,
        cron: info.cron,
        timezone: info.timezone,
        enabled: info.enabled,
        payload: info.payload,
        last_run_at: info.last_run_at,
        last_run_status: info.last_run_status,
        last_error: info.last_error,
        created_at: info.created_at,
    }
}

#[async_trait]
impl Schedules for PlatformSchedules {
    async fn list(&self, scope: &Scope<'_>) -> Result<Vec<Schedule>, SchedulesError> {
        let all = self.0.schedules_list(&caller(scope)).await.map_err(readable)?;
        Ok(all.into_iter().map(schedule).collect())
    }

    async fn get(&self, scope: &Scope<'_>, id: &str) -> Result<Option<Schedule>, SchedulesError> {
        let found = self.0.schedules_get(&caller(scope), id).await.map_err(readable)?;
        Ok(found.map(schedule))
    }

    async fn create(&self, scope: &Scope<'_>, new: NewSchedule) -> Result<String, WriteError> {
        let input = CreateScheduleInput {
            endpoint: new.endpoint,
            cron: new.cron,
            timezone: new.timezone,
            enabled: new.enabled,
            name: new.name,
            payload: new.payload,
        };
        let made = self.0.schedules_create(&caller(scope), &input).await.map_err(|error| {
            let result = CreateScheduleResult::from(&error);
            write_error(error, result.error, result.field_errors.as_deref())
        })?;
        made.schedule_id.ok_or_else(|| WriteError::internal("the platform gave no id"))
    }

    async fn update(&self, scope: &Scope<'_>, id: &str, change: ScheduleChange) -> Result<(), WriteError> {
        let input = UpdateScheduleInput {
            endpoint: change.endpoint,
            cron: change.cron,
            timezone: change.timezone,
            enabled: change.enabled,
            name: change.name,
            payload: change.payload,
        };
        self.0.schedules_update(&caller(scope), id, &input).await.map(drop).map_err(|error| {
            let result = UpdateScheduleResult::from(&error);
            write_error(error, result.error, result.field_errors.as_deref())
        })
    }

    async fn delete(&self, scope: &Scope<'_>, id: &str) -> Result<(), WriteError> {
        self.0.schedules_delete(&caller(scope), id).await.map(drop).map_err(|error| {
            let result = DeleteScheduleResult::from(&error);
            write_error(error, result.error, None)
        })
    }

    async fn endpoints(&self, scope: &Scope<'_>) -> Result<Vec<EndpointInfo>, SchedulesError> {
        let all = self.0.endpoints(&caller(scope)).await.map_err(readable)?;
        let info = |endpoint: longshore_platform::EndpointInfo| EndpointInfo {
            id: endpoint.id,
            method: endpoint.method,
            path: endpoint.path,
            handler: endpoint.handler,
            schedulable: endpoint.schedulable,
        };
        Ok(all.into_iter().map(info).collect())
    }
}
