// Renders a chart as `helm template` does, as far as ours goes: the same template engine, the same
// library of functions (sprig) and the same reader of values. For where helm itself cannot be had.
//
//	helm-template CHART RELEASE [VALUE=TEXT…]
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := render(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func render(chart, release string, given []string) error {
	about, err := read(filepath.Join(chart, "Chart.yaml"))
	if err != nil {
		return err
	}
	values, err := read(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return err
	}
	for _, setting := range given {
		key, value, _ := strings.Cut(setting, "=")
		set(values, strings.Split(key, "."), value)
	}
	scope := map[string]any{
		"Values":  values,
		"Chart":   map[string]any{"Name": about["name"], "AppVersion": about["appVersion"]},
		"Release": map[string]any{"Name": release, "Namespace": "default", "Service": "Helm"},
	}
	functions := sprig.TxtFuncMap()
	functions["toYaml"] = func(value any) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	functions["required"] = func(complaint string, value any) (any, error) {
		if value == nil || value == "" {
			return nil, fmt.Errorf("%s", complaint)
		}
		return value, nil
	}
	files, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name := filepath.Base(file)
		parsed, err := template.New(name).Funcs(functions).Option("missingkey=zero").Parse(string(text))
		if err != nil {
			return err
		}
		if name == "NOTES.txt" {
			continue
		}
		fmt.Println("---")
		if err := parsed.Execute(os.Stdout, scope); err != nil {
			return err
		}
	}
	return nil
}

func read(file string) (map[string]any, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var values map[string]any
	return values, yaml.UnmarshalStrict(text, &values)
}

func set(values map[string]any, path []string, value string) {
	for _, key := range path[:len(path)-1] {
		values = values[key].(map[string]any)
	}
	values[path[len(path)-1]] = value
}
