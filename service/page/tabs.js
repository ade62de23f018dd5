// Tabs with the keyboard pattern of https://www.w3.org/WAI/ARIA/apg/patterns/tabs/: one tab stop, arrows between tabs.

/** Connect the tabs with their panels; calls `onShow(panel)` with each visible panel. */
export function startTabs(onShow) {
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

  function select(tab, { focus }) {
    for (const one of tabs) {
      const isSelected = one === tab;
      one.setAttribute("aria-selected", String(isSelected));
      one.tabIndex = isSelected ? 0 : -1;
      panelOf(one).hidden = !isSelected;
    }
    if (focus) {
      tab.focus();
      history.replaceState(null, "", `#${panelOf(tab).id}`);
    }
    onShow(panelOf(tab));
  }

  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  const shown = () => tabs.filter((tab) => !tab.hidden); // the ranking's is for some models
  tabs.forEach((tab) => {
    tab.addEventListener("click", () => select(tab, { focus: true }));
    tab.addEventListener("keydown", (event) => {
      const all = shown();
      let next = null;
      if (event.key in steps) next = (all.indexOf(tab) + steps[event.key] + all.length) % all.length;
      else if (event.key === "Home") next = 0;
      else if (event.key === "End") next = all.length - 1;
      if (next === null) return;
      event.preventDefault();
      select(all[next], { focus: true });
    });
  });
  select(shown().find((tab) => `#${panelOf(tab).id}` === location.hash) ?? tabs[0], { focus: false });
}
