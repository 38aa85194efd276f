//! `cap:scheduler.manage`: schedules of the install, kept by the platform or in JetStream. Limits: 50 schedules, five
//! minutes apart, names and payloads (`longshore-schedules`). Records inputs, results and why the backend said no.

use longshore_schedules::{
    NewSchedule, Schedule, ScheduleChange, Schedules, SchedulesError, Scope, WriteError,
};

use super::bindings::alga::extension::scheduler::Host;
use super::bindings::alga::extension::types::{
    CreateScheduleInput, CreateScheduleResult, DeleteScheduleResult, EndpointInfo, ScheduleInfo,
    SchedulerError, UpdateScheduleInput, UpdateScheduleResult,
};
use super::call::{by_success, wit_error};
use super::recorded::recorded;
use super::scope::RunScope;
use super::{RunState, host_call};

/// The words of the existing platform, here and below.
const DENIED: &str = "Permission denied: cap:scheduler.manage not granted";
const NO_INSTALL: &str = "Install ID missing";
/// Nothing to ask.
const NO_BACKEND: &str = "no scheduler is configured";

wit_error!(SchedulerError);
by_success!(CreateScheduleResult, UpdateScheduleResult, DeleteScheduleResult);
recorded!(
    ScheduleInfo {
        id, endpoint_path, endpoint_method, name, cron, timezone, enabled, payload, last_run_at,
        last_run_status, last_error, created_at,
    }
    EndpointInfo { id, method, path, handler, schedulable }
    CreateScheduleInput { endpoint, cron, timezone, enabled, name, payload }
    CreateScheduleResult { success, schedule_id, error, field_errors }
    UpdateScheduleInput { endpoint, cron, timezone, enabled, name, payload }
    UpdateScheduleResult { success, error, field_errors }
    DeleteScheduleResult { success, error }
);

fn info(schedule: Schedule) -> ScheduleInfo {
    ScheduleInfo {
        id: schedule.id,
        endpoint_path: schedule.endpoint_path,
        endpoint_method: schedule.endpoint_method,
        name: schedule.name,
        cron: schedule.cron,
        timezone: schedule.timezone,
        enabled: schedule.enabled,
        payload: schedule.payload,
        last_run_at: schedule.last_run_at,
        last_run_status: schedule.last_run_status,
        last_error: schedule.last_error,
        created_at: schedule.created_at,
    }
}

/// Field errors as the JSON text that the WIT carries.
fn fields(error: &WriteError) -> Option<String> {
    (!error.field_errors.is_empty()).then(|| serde_json::to_string(&error.field_errors).ok()).flatten()
}

fn created(result: Result<String, WriteError>) -> CreateScheduleResult {
    match result {
        Ok(id) => {
            CreateScheduleResult { success: true, schedule_id: Some(id), error: None, field_errors: None }
        }
        Err(error) => CreateScheduleResult {
            success: false,
            schedule_id: None,
            field_errors: fields(&error),
            error: Some(error.message),
        },
    }
}

fn updated(result: Result<(), WriteError>) -> UpdateScheduleResult {
    match result {
        Ok(()) => UpdateScheduleResult { success: true, error: None, field_errors: None },
        Err(error) => {
            UpdateScheduleResult { success: false, field_errors: fields(&error), error: Some(error.message) }
        }
    }
}

fn deleted(result: Result<(), WriteError>) -> DeleteScheduleResult {
    match result {
        Ok(()) => DeleteScheduleResult { success: true, error: None },
        Err(error) => DeleteScheduleResult { success: false, error: Some(error.message) },
    }
}

impl RunScope {
    /// The schedules and whose, or why there are none in words and as an error.
    fn schedules(&self) -> Result<(&dyn Schedules, Scope<'_>), (&'static str, SchedulerError)> {
        let install = self.install().ok_or((NO_INSTALL, SchedulerError::Denied))?;
        let schedules = self.backends.schedules.as_deref().ok_or((NO_BACKEND, SchedulerError::Internal))?;
        Ok((schedules, Scope { run: &self.run, install, endpoints: self.endpoints() }))
    }

    /// For the functions that answer with an error enum.
    fn readable(&self) -> Result<(&dyn Schedules, Scope<'_>), SchedulerError> {
        self.schedules().map_err(|(words, error)| {
            self.record.note(words);
            error
        })
    }

    /// For the functions that answer with words.
    fn writable(&self) -> Result<(&dyn Schedules, Scope<'_>), WriteError> {
        self.schedules().map_err(|(words, _)| WriteError::new(words))
    }

    fn schedules_error(&self, error: &SchedulesError) -> SchedulerError {
        self.record.note(error.to_string());
        match error {
            SchedulesError::NotFound => SchedulerError::NotFound,
            SchedulesError::Validation(_) => SchedulerError::ValidationFailed,
            SchedulesError::Quota(_) => SchedulerError::QuotaExceeded,
            SchedulesError::Denied => SchedulerError::Denied,
            SchedulesError::Internal(_) => {
                self.upstream_failed(error);
                SchedulerError::Internal
            }
        }
    }

    /// A failed write whose cause is the backend's is the operator's to see.
    fn log_write<T>(&self, result: &Result<T, WriteError>) {
        if let Err(error) = result
            && error.source.is_some()
        {
            self.upstream_failed(error);
        }
    }
}

impl Host for RunState {
    async fn list_schedules(&mut self) -> wasmtime::Result<Result<Vec<ScheduleInfo>, SchedulerError>> {
        host_call!(self, "scheduler.list-schedules", SchedulerManage, args: {}, denied: Err(SchedulerError::Denied), |run| {
            match run.readable() {
                Ok((schedules, scope)) => run
                    .in_time(schedules.list(&scope))
                    .await
                    .map(|all| all.into_iter().map(info).collect::<Vec<_>>())
                    .map_err(|e| run.schedules_error(&e)),
                Err(error) => Err(error),
            }
        })
    }

    async fn get_schedule(
        &mut self,
        schedule_id: String,
    ) -> wasmtime::Result<Result<Option<ScheduleInfo>, SchedulerError>> {
        host_call!(
            self, "scheduler.get-schedule", SchedulerManage, args: { schedule_id },
            denied: Err(SchedulerError::Denied), |run| {
                match run.readable() {
                    Ok((schedules, scope)) => run
                    .in_time(schedules.get(&scope, &schedule_id))
                    .await
                        .map(|found| found.map(info))
                        .map_err(|e| run.schedules_error(&e)),
                    Err(error) => Err(error),
                }
            }
        )
    }

    async fn create_schedule(
        &mut self,
        input: CreateScheduleInput,
    ) -> wasmtime::Result<CreateScheduleResult> {
        host_call!(
            self, "scheduler.create-schedule", SchedulerManage, args: { input },
            denied: created(Err(WriteError::new(DENIED))), |run| {
                let CreateScheduleInput { endpoint, cron, timezone, enabled, name, payload } = input;
                let new = NewSchedule { endpoint, cron, timezone, enabled, name, payload };
                let result = match run.writable() {
                    Ok((schedules, scope)) => run.in_time(schedules.create(&scope, new)).await,
                    Err(error) => Err(error),
                };
                run.log_write(&result);
                created(result)
            }
        )
    }

    async fn update_schedule(
        &mut self,
        schedule_id: String,
        input: UpdateScheduleInput,
    ) -> wasmtime::Result<UpdateScheduleResult> {
        host_call!(
            self, "scheduler.update-schedule", SchedulerManage, args: { schedule_id, input },
            denied: updated(Err(WriteError::new(DENIED))), |run| {
                let UpdateScheduleInput { endpoint, cron, timezone, enabled, name, payload } = input;
                let change = ScheduleChange { endpoint, cron, timezone, enabled, name, payload };
                let result = match run.writable() {
                    Ok((schedules, scope)) => run.in_time(schedules.update(&scope, &schedule_id, change)).await,
                    Err(error) => Err(error),
                };
                run.log_write(&result);
                updated(result)
            }
        )
    }

    async fn delete_schedule(&mut self, schedule_id: String) -> wasmtime::Result<DeleteScheduleResult> {
        host_call!(
            self, "scheduler.delete-schedule", SchedulerManage, args: { schedule_id },
            denied: deleted(Err(WriteError::new(DENIED))), |run| {
                let result = match run.writable() {
                    Ok((schedules, scope)) => run.in_time(schedules.delete(&scope, &schedule_id)).await,
                    Err(error) => Err(error),
                };
                run.log_write(&result);
                deleted(result)
            }
        )
    }

    async fn get_endpoints(&mut self) -> wasmtime::Result<Result<Vec<EndpointInfo>, SchedulerError>> {
        host_call!(self, "scheduler.get-endpoints", SchedulerManage, args: {}, denied: Err(SchedulerError::Denied), |run| {
            match run.readable() {
                Ok((schedules, scope)) => run
                    .in_time(schedules.endpoints(&scope))
                    .await
                    .map(|all| all.into_iter().map(endpoint).collect::<Vec<_>>())
                    .map_err(|e| run.schedules_error(&e)),
                Err(error) => Err(error),
            }
        })
    }
}

fn endpoint(info: longshore_schedules::EndpointInfo) -> EndpointInfo {
    EndpointInfo {
        id: info.id,
        method: info.method,
        path: info.path,
        handler: info.handler,
        schedulable: info.schedulable,
    }
}
