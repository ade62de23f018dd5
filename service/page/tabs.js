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
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => select(tab, { focus: true }));
    tab.addEventListener("keydown", (event) => {
      let next = null;
      if (event.key in steps) next = (index + steps[event.key] + tabs.length) % tabs.length;
      else if (event.key === "Home") next = 0;
      else if (event.key === "End") next = tabs.length - 1;
      if (next === null) return;
      event.preventDefault();
      select(tabs[next], { focus: true });
    });
  });
  select(tabs.find((tab) => `#${panelOf(tab).id}` === location.hash) ?? tabs[0], { focus: false });
}
