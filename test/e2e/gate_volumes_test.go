// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// waitForConsumer is a StorageClass whose volumes are made for the node of the first
// Pod that uses them.
const waitForConsumer = "wait-for-consumer"

// provideVolumes does the work of a provisioner and of the controller of volumes, which
// the cluster does not have, in one namespace until the test ends.
func (e *env) provideVolumes(namespace string) {
	e.t.Helper()
	mode := storagev1.VolumeBindingWaitForFirstConsumer
	classes := cluster.Kube.StorageV1().StorageClasses()
	_, err := classes.Create(e.t.Context(), &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: waitForConsumer}, Provisioner: "example.dev/test", VolumeBindingMode: &mode,
	}, metav1.CreateOptions{})
	if err == nil {
		e.cleanup(func() error { return classes.Delete(cleanupContext(), waitForConsumer, metav1.DeleteOptions{}) })
	} else if _, found := classes.Get(e.t.Context(), waitForConsumer, metav1.GetOptions{}); found != nil {
		e.t.Fatal(err)
	}
	watcher, err := cluster.Kube.CoreV1().PersistentVolumeClaims(namespace).Watch(e.t.Context(), metav1.ListOptions{})
	e.check(err)
	e.t.Cleanup(watcher.Stop)
	e.cleanup(func() error { return unprotectClaims(namespace) })
	go func() {
		for change := range watcher.ResultChan() {
			claim, ok := change.Object.(*corev1.PersistentVolumeClaim)
			if ok && claim.Spec.VolumeName == "" && claim.Annotations["volume.kubernetes.io/selected-node"] != "" {
				if err := bindClaim(e.t.Context(), claim); err != nil && e.t.Context().Err() == nil {
					e.t.Errorf("claim %s/%s: %v", claim.Namespace, claim.Name, err)
				}
			}
		}
	}()
}

// unprotectClaims removes the finalizers with which the API server creates claims: the
// controller that would remove them does not run, and the namespace would stay.
func unprotectClaims(namespace string) error {
	claims := cluster.Kube.CoreV1().PersistentVolumeClaims(namespace)
	found, err := claims.List(cleanupContext(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, claim := range found.Items {
		_, err := claims.Patch(cleanupContext(), claim.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// bindClaim makes a volume for a claim and binds them to each other.
func bindClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "for-" + string(claim.UID)},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: waitForConsumer, AccessModes: claim.Spec.AccessModes, Capacity: claim.Spec.Resources.Requests,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/none"}},
			ClaimRef:               &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
		},
	}
	if _, err := cluster.Kube.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{}); err != nil {
		return err
	}
	claims := cluster.Kube.CoreV1().PersistentVolumeClaims(claim.Namespace)
	bind := fmt.Sprintf(`{"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes"}},"spec":{"volumeName":%q}}`, volume.Name)
	if _, err := claims.Patch(ctx, claim.Name, types.MergePatchType, []byte(bind), metav1.PatchOptions{}); err != nil {
		return err
	}
	_, err := claims.Patch(ctx, claim.Name, types.MergePatchType, []byte(`{"status":{"phase":"Bound"}}`), metav1.PatchOptions{}, "status")
	return err
}
