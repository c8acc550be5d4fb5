package redfish

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	tasksPath   = "/redfish/v1/TaskService/Tasks"
	monitorPath = "/redfish/v1/TaskService/TaskMonitors"
	maxTasks    = 100
)

// task is work that answers 202 first (DSP0266, section 14).
type task struct {
	id         int
	start, end time.Time
}

func (t *task) running() bool { return time.Now().Before(t.end) }

func (s *Server) startTask(w http.ResponseWriter) {
	s.mu.Lock()
	s.nextID++
	t := &task{id: s.nextID, start: time.Now()}
	t.end = t.start.Add(s.m.Faults().Get().TaskTime)
	s.tasks = append(s.tasks, t)
	if len(s.tasks) > maxTasks {
		s.tasks = s.tasks[1:]
	}
	s.mu.Unlock()
	w.Header().Set("Location", fmt.Sprintf("%s/%d", monitorPath, t.id))
	s.reply(w, http.StatusAccepted, taskObject(t))
}

func taskObject(t *task) object {
	o := object{
		"@odata.id": fmt.Sprintf("%s/%d", tasksPath, t.id), "@odata.type": "#Task.v1_7_0.Task",
		"Id": fmt.Sprint(t.id), "Name": "Reset", "StartTime": t.start.UTC().Format(time.RFC3339),
		"TaskState": "Running", "TaskStatus": "OK", "PercentComplete": 0, "Messages": []any{},
		"TaskMonitor": fmt.Sprintf("%s/%d", monitorPath, t.id),
	}
	if !t.running() {
		o["TaskState"], o["PercentComplete"], o["EndTime"] = "Completed", 100, t.end.UTC().Format(time.RFC3339)
	}
	return o
}

func (s *Server) serveTasks(w http.ResponseWriter, r *http.Request, k string) {
	if r.Method != http.MethodGet {
		s.fail(w, http.StatusMethodNotAllowed, "Base.1.8.OperationNotAllowed", r.Method+" is not possible here.")
		return
	}
	s.mu.Lock()
	tasks := append([]*task(nil), s.tasks...)
	s.mu.Unlock()
	if k == key(tasksPath) {
		members := []any{}
		for _, t := range tasks {
			members = append(members, object{"@odata.id": fmt.Sprintf("%s/%d", tasksPath, t.id)})
		}
		s.reply(w, http.StatusOK, object{
			"@odata.id": tasksPath, "@odata.type": "#TaskCollection.TaskCollection", "Name": "Tasks",
			"Members": members, "Members@odata.count": len(members),
		})
		return
	}
	for _, t := range tasks {
		switch k {
		case key(fmt.Sprintf("%s/%d", tasksPath, t.id)):
			s.reply(w, http.StatusOK, taskObject(t))
			return
		case key(fmt.Sprintf("%s/%d", monitorPath, t.id)):
			if t.running() {
				w.Header().Set("Location", fmt.Sprintf("%s/%d", monitorPath, t.id))
				s.reply(w, http.StatusAccepted, taskObject(t))
				return
			}
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	s.fail(w, http.StatusNotFound, "Base.1.8.ResourceMissingAtURI", "There is no task at "+strings.ToLower(k)+".")
}
