// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/resid"
	"sigs.k8s.io/yaml"
)

// overlays are the kustomizations that become a file release-NAME.yaml.
var overlays = []string{"ha", "minimal", "openshift-pipelines", "tekton-pipelines"}

// writeManifests renders config/ and its overlays with the image and the version of the
// release.
func (r *release) writeManifests() error {
	if err := r.render("release.yaml", r.installation("config")); err != nil {
		return err
	}
	for _, overlay := range overlays {
		if err := r.render("release-"+overlay+".yaml", r.installation("kustomize/"+overlay)); err != nil {
			return err
		}
	}
	if err := r.render("release-webhook.yaml", types.Kustomization{Resources: []string{"config/webhook"}, Images: r.kustomizeImages()}); err != nil {
		return err
	}
	return r.render("release-admission.yaml", types.Kustomization{Resources: []string{"config/admission"}})
}

// kustomizeImages replaces the images that only ko knows by those of the release.
func (r *release) kustomizeImages() []types.Image {
	images := make([]types.Image, 0, len(r.images))
	for _, made := range r.images {
		images = append(images, types.Image{Name: "ko://" + packageOf(made.command), NewName: made.repository, Digest: made.digest.String()})
	}
	return images
}

// installation returns a kustomization with the image and the version of the release.
func (r *release) installation(base string) types.Kustomization {
	return types.Kustomization{
		Resources: []string{base},
		Images:    r.kustomizeImages(),
		Patches: []types.Patch{{
			Target: &types.Selector{ResId: resid.ResId{Gvk: resid.Gvk{Kind: "ConfigMap"}, Name: "chains-info"}},
			Patch:  fmt.Sprintf(`[{"op": "replace", "path": "/data/version", "value": %q}]`, r.version),
		}},
	}
}

// render writes what a kustomization builds to a file in dist/. The paths in the
// kustomization are relative to the source.
func (r *release) render(file string, k types.Kustomization) error {
	dir, err := os.MkdirTemp(dist, "kustomize-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for i, resource := range k.Resources {
		k.Resources[i] = path.Join("..", "..", resource) // kustomize accepts no absolute paths
	}
	content, err := yaml.Marshal(k)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, konfig.DefaultKustomizationFileName()), content, 0o600); err != nil {
		return err
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	manifests, err := built.AsYaml()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	header := fmt.Sprintf("# Trusted Resources for Tekton Chains %s\n# SPDX-License-Identifier: Apache-2.0\n", r.version)
	return os.WriteFile(filepath.Join(dist, file), append([]byte(header), manifests...), 0o644)
}
